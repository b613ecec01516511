"""An earlier catalog's answers find their chunks, wherever on the sky and in the manifest their objects are now."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog.manifest import read_manifest
from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.manifest import Manifest, open_manifest
from galaxy_batch.reuse.join import gather_answers
from galaxy_batch.reuse.predictions import Answers, read_answers
from galaxy_batch.reuse.previous import PreviousCatalog
from galaxy_batch.rows import MODEL_COLUMNS, ReviewFlag
from tests.support.skies import CLASSES, publish_rows, run_in_order, sky_rows

ROWS = 900


def earlier_at(catalog: Path) -> PreviousCatalog:
    manifest = read_manifest(str(catalog))
    assert manifest
    return PreviousCatalog(str(catalog), "a", manifest.rows, manifest.files, CLASSES, {})


def manifest_of(rows: pa.Table, file: Path, chunk_rows: int = 70) -> tuple[Manifest, ManifestConfig]:
    if file.suffix == ".csv":
        pacsv.write_csv(rows.select(["object_id"]), file)
    else:
        pq.write_table(rows.select(["object_id"]), file, row_group_size=100)
    config = ManifestConfig(str(file), uri_template="{object_id}.jpg")
    return open_manifest(config, chunk_rows), config


def gathered(answers: Answers, manifest: Manifest) -> pa.Table:
    """All answers; each chunk's are asked for by itself."""
    return pa.concat_tables(answers.of_chunk(chunk.index) for chunk in manifest.chunks)


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return sky_rows(ROWS, seed=4, without_position=0.1)


@pytest.fixture(scope="module")
def catalog(rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_rows(tmp_path_factory.mktemp("earlier"), rows, part_rows=200, max_rows=150)


@pytest.mark.parametrize("run_rows", [100, 1_000_000])
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_each_chunk_gets_the_answers_of_its_objects(
    rows: pa.Table, catalog: Path, tmp_path: Path, run_rows: int, suffix: str
) -> None:
    new = sky_rows(120, seed=4, first=ROWS)
    now = pa.concat_tables([rows.slice(0, 700), new]).take(pa.array(np.random.default_rng(1).permutation(820)))
    manifest, config = manifest_of(now, tmp_path / f"objects{suffix}")
    answers = gather_answers(earlier_at(catalog), manifest, config, str(tmp_path / "answers"), run_in_order, run_rows)
    found = gathered(answers, manifest)
    assert answers.vanished == 200
    chunk_of = {i: number // 70 for number, i in enumerate(now["object_id"].to_pylist())}
    if suffix == ".csv":
        assert dict(zip(*(found[name].to_pylist() for name in ("object_id", "_chunk")), strict=True)) == {
            i: chunk_of[i] for i in rows["object_id"].to_pylist()[:700]
        }
    wanted = {row["object_id"]: row for row in rows.slice(0, 700).to_pylist()}
    assert sorted(found["object_id"].to_pylist()) == sorted(wanted)
    for row in found.to_pylist():
        was = wanted[row["object_id"]]
        ok = was["status"] == "ok"
        assert row["image_hash"] == (was["image_hash"] if ok else None)
        for name in ("p_smooth", "p_featured", "unfamiliarity", "instability"):
            assert row[name] == was[name]
        assert row["_blank_fraction"] == bool(was["review_flags"] & ReviewFlag.BLANK)
    left = sorted(path.name for path in (tmp_path / "answers").iterdir())
    assert left[-1] == "answers.json"
    assert all(name.startswith("answers") for name in left)


def test_text_ids_and_nothing_in_common(tmp_path: Path) -> None:
    rows = sky_rows(300, seed=2, text_ids=True)
    earlier = earlier_at(publish_rows(tmp_path / "earlier", rows))
    manifest, config = manifest_of(rows.slice(100), tmp_path / "objects.parquet")
    answers = gather_answers(earlier, manifest, config, str(tmp_path / "a"), run_in_order)
    assert sorted(gathered(answers, manifest)["object_id"].to_pylist()) == sorted(rows["object_id"].to_pylist()[100:])
    strangers = sky_rows(50, seed=2, text_ids=True, first=1000)
    manifest, config = manifest_of(strangers, tmp_path / "others.parquet")
    answers = gather_answers(earlier, manifest, config, str(tmp_path / "b"), run_in_order, run_rows=20)
    assert (len(gathered(answers, manifest)), answers.vanished) == (0, 300)


def test_an_answer_is_all_that_flags_are_made_from(rows: pa.Table, tmp_path: Path) -> None:
    flags = rows["review_flags"].to_numpy().copy()
    flags[:4] |= np.array([0, ReviewFlag.UNFAMILIAR, ReviewFlag.BLANK, ReviewFlag.AUDIT], np.int32)
    flagged = rows
    for name, values in {
        "review_flags": flags,
        **{name: np.arange(len(rows), dtype=np.float32) for name in MODEL_COLUMNS},
    }.items():
        flagged = flagged.set_column(rows.column_names.index(name), name, pa.array(values))
    flagged = flagged.slice(0, 300)
    manifest, config = manifest_of(flagged.slice(0, 4), tmp_path / "objects.parquet")
    earlier = earlier_at(publish_rows(tmp_path / "earlier", flagged))
    answers = gather_answers(earlier, manifest, config, str(tmp_path / "a"), run_in_order)
    found = {row["object_id"]: row for row in gathered(answers, manifest).to_pylist()}
    in_order = [found[i] for i in flagged["object_id"].to_pylist()[:4]]
    assert [row["image_hash"] for row in in_order] == flagged["image_hash"].to_pylist()[:4]
    assert [[row[name] for name in MODEL_COLUMNS] for row in in_order] == [[n, n] for n in range(4)]
    assert [row["_blank_fraction"] for row in in_order] == [0, 0, 1, 0]


def test_what_is_gathered_stays_and_what_is_half_is_made_anew(rows: pa.Table, catalog: Path, tmp_path: Path) -> None:
    manifest, config = manifest_of(rows, tmp_path / "objects.parquet")
    folder = tmp_path / "answers"
    (folder / "ids").mkdir(parents=True)
    (folder / "ids" / "run-000007.arrow").write_bytes(b"half")
    assert read_answers(str(folder)) is None
    earlier = earlier_at(catalog)
    first = gather_answers(earlier, manifest, config, str(folder), run_in_order)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert len(before) == 2
    assert gather_answers(earlier, manifest, config, str(folder), run_in_order) == first == read_answers(str(folder))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    other = PreviousCatalog(earlier.catalog_uri, "b", earlier.rows, earlier.files, CLASSES, {})
    assert gather_answers(other, manifest, config, str(folder), run_in_order).earlier_id == "b"


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_file_that_changed_after_it_was_verified_leaks_nothing(
    rows: pa.Table, catalog: Path, tmp_path: Path, damage: str
) -> None:
    earlier = earlier_at(catalog)
    manifest, config = manifest_of(rows, tmp_path / "objects.parquet")
    file = catalog / earlier.files[2].path
    content = file.read_bytes()
    flipped = content[:100] + bytes([content[100] ^ 1]) + content[101:]
    try:
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes(content[:-7] if damage == "cut" else flipped)
        wanted = r"has changed since it was verified, so nothing is taken from it: dataset/.*(missing|sha256)"
        with pytest.raises(InputError, match=wanted):
            gather_answers(earlier, manifest, config, str(tmp_path / "answers"), run_in_order)
    finally:
        file.write_bytes(content)
    assert read_answers(str(tmp_path / "answers")) is None


def test_memory_is_bounded_by_the_size_of_a_run(rows: pa.Table, catalog: Path, tmp_path: Path) -> None:
    manifest, config = manifest_of(rows, tmp_path / "objects.parquet", chunk_rows=10)
    tasks: list[tuple[str, int]] = []

    def counting(task: Any, items: Any, keywords: Any) -> Any:
        tasks.append((task.__name__, len(items)))
        return run_in_order(task, items, keywords)

    gather_answers(earlier_at(catalog), manifest, config, str(tmp_path / "a"), counting, run_rows=150)
    assert dict(tasks) == {
        "_sort_answers": pytest.approx(8, abs=3),
        "_sort_ids": 6,
        "_join_share": 6,
        "_order_by_chunk": 6,
    }
