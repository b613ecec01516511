import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.compare.compare import compare_catalogs
from galaxy_batch.compare.config import CompareConfig
from galaxy_batch.compare.series import measure_series
from galaxy_batch.compare.series_result import Series
from galaxy_batch.errors import InputError
from galaxy_batch.settings import parse_config
from galaxy_batch.storage.files import write_atomically
from tests.support.s3_server import S3
from tests.support.series import OLD_MODEL, OTHER_MODEL, add_catalog, publish_series
from tests.support.skies import read_catalog, sky_rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_series(tmp_path_factory.mktemp("series"))


def measured(folder: Path | str, **settings: Any) -> Series:
    return measure_series(CompareConfig(series_uri=str(folder), output_uri="unused", **settings))


def damage_column(file: Path, name: str) -> None:
    """Change the bytes of a column, and nothing else."""
    group, content = pq.read_metadata(file).row_group(0), bytearray(file.read_bytes())
    column = next(group.column(n) for n in range(group.num_columns) if group.column(n).path_in_schema == name)
    start = column.dictionary_page_offset or column.data_page_offset
    end = start + column.total_compressed_size
    content[start:end] = bytes(byte ^ 0x5A for byte in content[start:end])
    file.write_bytes(content)


@pytest.fixture(scope="module")
def series(folder: Path) -> Series:
    return measured(folder)


def test_catalogs_are_in_the_order_of_publication(series: Series) -> None:
    assert series.releases == ("dr8", "dr9", "dr10")
    assert series.models == (OLD_MODEL, OTHER_MODEL)
    named = [(catalog.release, catalog.model_id) for catalog in series.catalogs]
    assert named == [("dr8", OLD_MODEL), ("dr9", OLD_MODEL), ("dr10", OLD_MODEL), ("dr10", OTHER_MODEL)]
    assert series.newest == 3


def test_the_first_publication_of_a_release_counts_or_its_name(tmp_path: Path) -> None:
    rows = sky_rows(60)
    for release, model, created in (
        ("dr10", OLD_MODEL, "2024-01-01"), ("dr9", OLD_MODEL, "2025-01-01"), ("dr10", OTHER_MODEL, "2026-01-01"),
    ):  # fmt: skip
        add_catalog(tmp_path, release, model, created, rows)
    assert measured(tmp_path).releases == ("dr10", "dr9")
    by_name = measured(tmp_path, order="name")
    assert by_name.releases == ("dr9", "dr10")
    assert [(step.old, step.new) for step in by_name.steps] == [(0, 1), (1, 2)]
    assert by_name.newest == 2


def test_each_catalog_is_compared_with_the_one_before(series: Series) -> None:
    assert [(step.old, step.new, step.changed) for step in series.steps] == [
        (0, 1, "release"), (1, 2, "release"), (2, 3, "model"),
    ]  # fmt: skip
    assert series.last_step == series.steps[2]


def test_another_model_in_another_release_is_compared_with_the_newest(tmp_path: Path) -> None:
    rows = sky_rows(60)
    add_catalog(tmp_path, "a", OLD_MODEL, "2024-01-01", rows)
    add_catalog(tmp_path, "b", OTHER_MODEL, "2025-01-01", rows)
    add_catalog(tmp_path, "c", OLD_MODEL, "2026-01-01", rows)
    steps = measured(tmp_path).steps
    assert [(step.old, step.new, step.changed) for step in steps] == [(0, 1, "release and model"), (0, 2, "release")]


def test_numbers_are_those_of_the_catalog(series: Series, folder: Path) -> None:
    for catalog in series.catalogs:
        manifest, rows = require_manifest(catalog.catalog_uri), read_catalog(catalog.catalog_uri).to_pandas()
        assert (catalog.rows, catalog.failed, catalog.flagged) == (manifest.rows, manifest.failed, manifest.flagged)
        assert catalog.status_counts == rows["status"].value_counts().to_dict()
        shares = rows["predicted_class"].value_counts(normalize=True)
        assert catalog.class_shares == pytest.approx(shares.to_dict())
        known = rows["confidence"].dropna().to_numpy()
        quantiles = dict(
            zip(("q05", "q25", "median", "q75", "q95"), np.quantile(known, [0.05, 0.25, 0.5, 0.75, 0.95]), strict=True)
        )
        assert catalog.confidence == pytest.approx({"mean": known.mean(), **quantiles}, abs=1e-6)
        low, high = catalog.failed_interval
        assert low < catalog.failed_share < high


def test_steps_have_the_measures_of_a_comparison(series: Series) -> None:
    for step in series.steps:
        old, new = (series.catalogs[number].catalog_uri for number in (step.old, step.new))
        result = compare_catalogs(CompareConfig(old_uri=old, new_uri=new, output_uri="unused"))
        assert (step.matched, step.only_new, step.flipped) == (
            result.matching.matched, result.matching.only_new, result.flipped,
        )  # fmt: skip
        assert step.flip_rate == result.flip_rate
        assert step.psi == {name: shift.psi for name, shift in result.shifts.items()}
        assert step.failed_rate_increase == result.failed.increase
        assert step.gates_crossed == tuple(gate.name for gate in result.crossed)
    assert [step.flipped for step in series.steps[:2]] == [series.steps[0].flipped, 0]
    assert 0.005 < series.steps[0].flip_rate < 0.015
    assert series.steps[1].failed_rate_increase == pytest.approx(0.05, abs=0.01)
    assert 0.1 < series.steps[2].flip_rate < 0.15


def test_what_is_not_published_or_damaged_is_named_and_skipped(series: Series) -> None:
    (unpublished, damaged) = series.skipped
    assert (unpublished.release, unpublished.model_id) == ("dr11", OTHER_MODEL)
    assert unpublished.reason == "not published, or withdrawn: no manifest.json; its last run: failed"
    assert (damaged.release, damaged.model_id) == ("dr9", OTHER_MODEL)
    assert damaged.reason == "manifest.json: is damaged: not JSON"


def test_a_catalog_whose_file_is_gone_is_skipped(tmp_path: Path) -> None:
    add_catalog(tmp_path, "a", OLD_MODEL, "2024-01-01", sky_rows(60))
    broken = add_catalog(tmp_path, "b", OLD_MODEL, "2025-01-01", sky_rows(60))
    next(broken.glob("dataset/Norder=*/**/*.parquet")).unlink()
    series = measured(tmp_path)
    assert (series.releases, series.steps, series.last_step) == (("a",), (), None)
    assert "is missing: verify the catalog" in series.skipped[0].reason


def test_a_catalog_that_turns_out_to_be_damaged_is_skipped_and_its_neighbours_are_compared(tmp_path: Path) -> None:
    rows = sky_rows(60)
    for number, release in enumerate("abc"):
        add_catalog(tmp_path, release, OLD_MODEL, f"202{number}-01-01", rows)
    file = next((tmp_path / "release=b").rglob("dataset/Norder=*/**/*.parquet"))
    damage_column(file, "object_id")  # not read for the numbers of the catalog, only for the comparison
    series = measured(tmp_path)
    assert (series.releases, [(step.old, step.new, step.matched) for step in series.steps]) == (
        ("a", "c"),
        [(0, 1, 60)],
    )
    (skipped,) = series.skipped
    assert skipped.release == "b"
    assert "is damaged, verify the catalog" in skipped.reason


def test_two_catalogs_that_cannot_be_compared_are_named(tmp_path: Path) -> None:
    rows = sky_rows(60)
    texts = rows.set_column(0, "object_id", rows["object_id"].cast(pa.string()))
    for number, (release, each) in enumerate({"dr8": rows, "text": texts}.items()):
        add_catalog(tmp_path, release, OLD_MODEL, f"202{number}-01-01", each)
    with pytest.raises(InputError, match=rf"match by position \(text, {OLD_MODEL} against dr8, {OLD_MODEL}\)"):
        measured(tmp_path)


def test_the_others_are_compared(tmp_path: Path) -> None:
    rows = sky_rows(60)
    texts = rows.set_column(0, "object_id", rows["object_id"].cast(pa.string()))
    for number, (release, each) in enumerate({"dr8": rows, "dr9": rows, "text": texts}.items()):
        add_catalog(tmp_path, release, OLD_MODEL, f"202{number}-01-01", each)
    series = measured(tmp_path)
    assert [(step.old, step.new) for step in series.steps] == [(0, 1)]
    ((old, new, reason),) = [dataclasses.astuple(pair) for pair in series.not_compared]
    assert (old, new) == (1, 2)
    assert reason == series.unjudged
    assert f"(text, {OLD_MODEL} against dr9, {OLD_MODEL})" in reason


@pytest.mark.parametrize(("broken", "judged"), [("a", True), ("c", False)])
def test_a_damaged_catalog_is_judged_by_nothing_if_it_is_the_newest(tmp_path: Path, broken: str, judged: bool) -> None:
    for number, release in enumerate("abc"):
        catalog = add_catalog(tmp_path, release, OLD_MODEL, f"202{number}-01-01", sky_rows(60))
        if release == broken:
            next(catalog.glob("dataset/Norder=*/**/*.parquet")).unlink()
    assert (measured(tmp_path).unjudged == "") is judged


@pytest.mark.parametrize("output", ["", "page", "dataset/../page"])
def test_the_page_is_not_written_into_a_catalog(tmp_path: Path, output: str) -> None:
    catalog = add_catalog(tmp_path, "a", OLD_MODEL, "2024-01-01", sky_rows(60))
    inside = f"{catalog}/{output}"
    with pytest.raises(InputError, match=r"output_uri = .*inside the catalog's folder"):
        measure_series(CompareConfig(series_uri=str(tmp_path), output_uri=inside))
    with pytest.raises(InputError, match=r"output_uri = .*inside the catalog's folder"):
        compare_catalogs(CompareConfig(old_uri=str(catalog), new_uri=str(catalog), output_uri=inside))


@pytest.mark.parametrize("below", ["", "release=a/model=b", "nowhere"])
def test_a_folder_without_a_published_catalog_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "release=a" / "model=b").mkdir(parents=True)
    with pytest.raises(InputError, match=r"series_uri = .*no catalog is published there"):
        measured(tmp_path / below)


def test_a_series_on_an_object_store(s3: S3, folder: Path, series: Series) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            write_atomically(f"{s3.uri}/series/{file.relative_to(folder)}", file.read_bytes())
    stored = measured(f"{s3.uri}/series")
    assert dataclasses.replace(stored, series_uri="", catalogs=(), skipped=()) == dataclasses.replace(
        series, series_uri="", catalogs=(), skipped=()
    )
    assert [one.reason for one in stored.skipped] == [one.reason for one in series.skipped]


@pytest.mark.parametrize(
    "given",
    [{}, {"old_uri": "/a"}, {"new_uri": "/a"}, {"old_uri": "/a", "series_uri": "/b"},
     {"old_uri": "/a", "new_uri": "/b", "series_uri": "/c"}],
)  # fmt: skip
def test_a_config_names_two_catalogs_or_a_folder(given: dict[str, str]) -> None:
    with pytest.raises(InputError, match="give old_uri and new_uri, two catalogs, or series_uri, a folder of releases"):
        parse_config(CompareConfig, {"output_uri": "/out", **given})
