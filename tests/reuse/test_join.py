"""Each chunk gets the predictions of its objects, wherever these are in the previous catalog and the manifest."""

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
from galaxy_batch.reuse.join import join_previous
from galaxy_batch.reuse.predictions import PreviousPredictions, read_predictions
from galaxy_batch.reuse.previous import PreviousCatalog
from galaxy_batch.rows import MODEL_COLUMNS, ReviewFlag
from galaxy_batch.runtime.tasks import run_in_order
from tests.support.skies import publish_rows, sky_rows

ROWS = 900
PREDICTIONS = ("p_smooth", "p_featured", "unfamiliarity", "instability")


def previous_at(catalog: Path) -> PreviousCatalog:
    manifest = read_manifest(str(catalog))
    assert manifest
    return PreviousCatalog(str(catalog), "a", manifest.rows, manifest.files, PREDICTIONS, {})


def manifest_of(rows: pa.Table, file: Path, chunk_rows: int = 70) -> tuple[Manifest, ManifestConfig]:
    if file.suffix == ".csv":
        pacsv.write_csv(rows.select(["object_id"]), file)
    else:
        pq.write_table(rows.select(["object_id"]), file, row_group_size=100)
    config = ManifestConfig(str(file), uri_template="{object_id}.jpg")
    return open_manifest(config, chunk_rows), config


def all_predictions(predictions: PreviousPredictions, manifest: Manifest) -> pa.Table:
    """The predictions of all chunks, each read by itself."""
    return pa.concat_tables(predictions.of_chunk(chunk.index) for chunk in manifest.chunks)


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return sky_rows(ROWS, seed=4, without_position=0.1)


@pytest.fixture(scope="module")
def catalog(rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_rows(tmp_path_factory.mktemp("previous"), rows, part_rows=200, max_rows=150)


@pytest.mark.parametrize("run_rows", [100, 1_000_000])
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_each_chunk_gets_the_predictions_of_its_objects(
    rows: pa.Table, catalog: Path, tmp_path: Path, run_rows: int, suffix: str
) -> None:
    new = sky_rows(120, seed=4, first=ROWS)
    now = pa.concat_tables([rows.slice(0, 700), new]).take(pa.array(np.random.default_rng(1).permutation(820)))
    manifest, config = manifest_of(now, tmp_path / f"objects{suffix}")
    predictions = join_previous(
        previous_at(catalog), manifest, config, str(tmp_path / "predictions"), run_in_order, run_rows
    )
    joined = all_predictions(predictions, manifest)
    assert predictions.vanished == 200
    chunk_of = {i: number // 70 for number, i in enumerate(now["object_id"].to_pylist())}
    if suffix == ".csv":
        assert dict(zip(*(joined[name].to_pylist() for name in ("object_id", "_chunk")), strict=True)) == {
            i: chunk_of[i] for i in rows["object_id"].to_pylist()[:700]
        }
    expected = {row["object_id"]: row for row in rows.slice(0, 700).to_pylist()}
    assert sorted(joined["object_id"].to_pylist()) == sorted(expected)
    for row in joined.to_pylist():
        before = expected[row["object_id"]]
        ok = before["status"] == "ok"
        assert row["image_hash"] == (before["image_hash"] if ok else None)
        for name in ("p_smooth", "p_featured", "unfamiliarity", "instability"):
            assert row[name] == before[name]
        assert row["_pixel_flags"] == before["review_flags"] & ReviewFlag.BLANK
    left = sorted(path.name for path in (tmp_path / "predictions").iterdir())
    assert left[-1] == "predictions.json"
    assert all(name.startswith("predictions") for name in left)


def test_text_ids_and_catalogs_without_a_common_object(tmp_path: Path) -> None:
    rows = sky_rows(300, seed=2, text_ids=True)
    previous = previous_at(publish_rows(tmp_path / "previous", rows))
    manifest, config = manifest_of(rows.slice(100), tmp_path / "objects.parquet")
    predictions = join_previous(previous, manifest, config, str(tmp_path / "a"), run_in_order)
    assert sorted(all_predictions(predictions, manifest)["object_id"].to_pylist()) == sorted(
        rows["object_id"].to_pylist()[100:]
    )
    others = sky_rows(50, seed=2, text_ids=True, first=1000)
    manifest, config = manifest_of(others, tmp_path / "others.parquet")
    predictions = join_previous(previous, manifest, config, str(tmp_path / "b"), run_in_order, run_rows=20)
    assert (len(all_predictions(predictions, manifest)), predictions.vanished) == (0, 300)


def test_everything_that_flags_are_computed_from_is_kept(rows: pa.Table, tmp_path: Path) -> None:
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
    previous = previous_at(publish_rows(tmp_path / "previous", flagged))
    predictions = join_previous(previous, manifest, config, str(tmp_path / "a"), run_in_order)
    by_id = {row["object_id"]: row for row in all_predictions(predictions, manifest).to_pylist()}
    in_order = [by_id[i] for i in flagged["object_id"].to_pylist()[:4]]
    assert [row["image_hash"] for row in in_order] == flagged["image_hash"].to_pylist()[:4]
    assert [[row[name] for name in MODEL_COLUMNS] for row in in_order] == [[n, n] for n in range(4)]
    assert [row["_pixel_flags"] for row in in_order] == [0, 0, ReviewFlag.BLANK, 0]


def test_complete_predictions_are_kept_and_incomplete_ones_replaced(
    rows: pa.Table, catalog: Path, tmp_path: Path
) -> None:
    manifest, config = manifest_of(rows, tmp_path / "objects.parquet")
    folder = tmp_path / "predictions"
    (folder / "ids").mkdir(parents=True)
    (folder / "ids" / "run-000007.arrow").write_bytes(b"half")
    (folder / "answers.json").write_text("{}")  # of an older version
    assert read_predictions(str(folder)) is None
    previous = previous_at(catalog)
    first = join_previous(previous, manifest, config, str(folder), run_in_order)
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert len(times) == 2
    assert (
        join_previous(previous, manifest, config, str(folder), run_in_order) == first == read_predictions(str(folder))
    )
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times
    other = PreviousCatalog(previous.catalog_uri, "b", previous.rows, previous.files, PREDICTIONS, {})
    assert join_previous(other, manifest, config, str(folder), run_in_order).content_id == "b"


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_nothing_is_reused_from_a_file_that_changed_after_verification(
    rows: pa.Table, catalog: Path, tmp_path: Path, damage: str
) -> None:
    previous = previous_at(catalog)
    manifest, config = manifest_of(rows, tmp_path / "objects.parquet")
    file = catalog / previous.files[2].path
    content = file.read_bytes()
    flipped = content[:100] + bytes([content[100] ^ 1]) + content[101:]
    try:
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes(content[:-7] if damage == "cut" else flipped)
        message = r"has changed since it was verified, so nothing is reused: dataset/.*(missing|sha256)"
        with pytest.raises(InputError, match=message):
            join_previous(previous, manifest, config, str(tmp_path / "predictions"), run_in_order)
    finally:
        file.write_bytes(content)
    assert read_predictions(str(tmp_path / "predictions")) is None


def test_memory_is_bounded_by_the_size_of_a_run(rows: pa.Table, catalog: Path, tmp_path: Path) -> None:
    manifest, config = manifest_of(rows, tmp_path / "objects.parquet", chunk_rows=10)
    tasks: list[tuple[str, int]] = []

    def counting(task: Any, items: Any, keywords: Any) -> Any:
        tasks.append((task.__name__, len(items)))
        return run_in_order(task, items, keywords)

    join_previous(previous_at(catalog), manifest, config, str(tmp_path / "a"), counting, run_rows=150)
    assert dict(tasks) == {
        "_sort_predictions": pytest.approx(8, abs=3),
        "_sort_ids": 6,
        "_join_range": 6,
        "_sort_by_chunk": 6,
    }
