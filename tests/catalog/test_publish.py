"""From parts to a catalog: every row once, in the file of its pixel, however the parts are cut."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog import publish as publication
from galaxy_batch.catalog.manifest import read_manifest, require_manifest
from galaxy_batch.catalog.sort_parts import sort_parts
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.rows import ReviewFlag
from galaxy_batch.runtime.tasks import run_in_order, run_tasks
from tests.support.s3_server import S3
from tests.support.skies import (
    REVIEW,
    catalog_contents,
    layout_in,
    publish_rows,
    publish_sorted,
    read_catalog,
    sky_rows,
    write_unsorted_parts,
)

ROWS = 3000


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return sky_rows(ROWS, seed=9, without_position=0.1)


def test_every_row_is_in_one_file_as_it_was(rows: pa.Table, tmp_path: Path) -> None:
    catalog = publish_rows(tmp_path, rows, part_rows=170, max_rows=200, run_rows=700)
    assert verify_catalog(str(catalog)) == []
    published, wanted = read_catalog(catalog), rows.sort_by("object_id")
    for name in wanted.column_names:
        if name not in ("review_flags", "needs_review"):
            assert published[name].equals(wanted[name]), name
    assert not Path(layout_in(tmp_path).sorted_runs).exists()
    assert len(list(catalog.glob("without_position/*"))) == 4
    sizes = [pq.read_metadata(file).num_rows for file in catalog.rglob("*.parquet")]
    assert max(sizes) <= 200


def test_repeated_images_are_counted_over_all_parts(rows: pa.Table, tmp_path: Path) -> None:
    hashes = rows["image_hash"].to_pylist()
    hashes[0] = hashes[-1] = 77  # too few, far apart
    hashes[5] = hashes[1500] = hashes[-2] = -(2**63)  # just enough
    hashes[6] = hashes[1501] = hashes[-3] = 2**63 - 1
    changed = rows.set_column(rows.column_names.index("image_hash"), "image_hash", pa.array(hashes, pa.int64()))
    published = read_catalog(publish_rows(tmp_path, changed, 170, 200, 700))
    times = Counter(value for value in hashes if value is not None)
    for row in published.select(["image_hash", "review_flags", "needs_review"]).to_pylist():
        repeated = times[row["image_hash"]] >= REVIEW.min_repeats
        assert bool(row["review_flags"] & ReviewFlag.REPEATED_IMAGE) == repeated
        assert row["needs_review"] == (row["review_flags"] != 0)
    assert {-(2**63), 2**63 - 1, 42} <= {value for value, count in times.items() if count >= 3}


def test_hashes_counted_in_many_ranges_are_counted_as_in_one(
    rows: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = catalog_contents(publish_rows(tmp_path / "one", rows))
    monkeypatch.setattr(publication, "_HASHES_AT_ONCE", 100)
    assert catalog_contents(publish_rows(tmp_path / "many", rows)) == one


def test_the_catalog_does_not_depend_on_the_size_or_order_of_the_parts(rows: pa.Table, tmp_path: Path) -> None:
    wanted = catalog_contents(publish_rows(tmp_path / "a", rows, 1000, 300, 5000))
    order = np.random.default_rng(1).permutation(len(rows))
    assert catalog_contents(publish_rows(tmp_path / "b", rows.take(pa.array(order)), 130, 300, 400)) == wanted
    assert len(wanted) > 15


def test_any_number_of_objects_at_one_position_share_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ra, dec = np.full(500, 10.0), np.full(500, 20.0)
    catalog = publish_rows(tmp_path, sky_rows(500, positions=(ra, dec)), 60, 100, 120)
    assert verify_catalog(str(catalog)) == []
    (file,) = catalog.glob("dataset/**/*.parquet")
    assert "Norder=10" in str(file)
    assert pq.read_table(file, partitioning=None)["object_id"].to_pylist() == sorted(
        read_catalog(catalog)["object_id"].to_pylist()
    )
    assert "1 pixels of order 10, the smallest tiles, have more than max_rows = 100 rows" in caplog.text


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_survey_with_all_positions_or_none(share: float, tmp_path: Path) -> None:
    catalog = publish_rows(tmp_path, sky_rows(400, without_position=share), 100, 150, 300)
    assert verify_catalog(str(catalog)) == []
    assert require_manifest(str(catalog)).without_position == 400 * share
    beside = [pq.read_metadata(file).num_rows for file in catalog.glob("without_position/*.parquet")]
    assert sum(beside) == 400 * share
    assert beside == [0] or share
    assert bool(list(catalog.glob("dataset/Norder*"))) == (not share)


def test_kept_columns_of_any_type_are_published(tmp_path: Path) -> None:
    rows = sky_rows(300, seed=3, without_position=0.1)
    n = range(len(rows))
    kept = {
        "z": pa.array([None if i % 7 == 0 else i / 300 for i in n], pa.float32()),
        "note": pa.array([None if i % 5 == 0 else f"{'ü' * (i % 9)}{i}" for i in n]),
        "band": pa.array(["g" if i % 2 else "r" for i in n]).dictionary_encode(),
        "flux": pa.array([[float(i)] * (i % 3) for i in n], pa.list_(pa.float64())),
        "fit": pa.array([{"radius": i, "good": True} for i in n]),
        "seen": pa.array(list(n), pa.timestamp("us")),
        "counts": pa.array(list(n), pa.uint64()),
    }
    for name, values in kept.items():
        rows = rows.append_column(name, values)
    catalog = publish_rows(tmp_path, rows, 70, 40, 110)
    assert verify_catalog(str(catalog)) == []
    published, wanted = read_catalog(catalog), rows.sort_by("object_id")
    for name in kept:
        assert published[name].to_pylist() == wanted[name].to_pylist(), name


def test_a_single_row_is_a_catalog(tmp_path: Path) -> None:
    catalog = publish_rows(tmp_path, sky_rows(1))
    assert verify_catalog(str(catalog)) == []


@pytest.mark.parametrize("change", ["lost", "doubled", "exchanged"])
def test_nothing_is_published_when_a_run_has_changed(rows: pa.Table, tmp_path: Path, change: str) -> None:
    placed = rows.filter(rows["ra"].is_valid())
    layout, sizes = write_unsorted_parts(tmp_path / "a", placed)
    totals = sort_parts(layout, sizes, run_in_order, run_rows=1000)
    run = Path(layout.sorted_rows(1))
    if change == "lost":
        other, sizes = write_unsorted_parts(tmp_path / "b", placed)
        sort_parts(other, sizes[:3], run_in_order, run_rows=1000)
        run.write_bytes(Path(other.sorted_rows(1)).read_bytes())
    elif change == "doubled":
        run.write_bytes(Path(layout.sorted_rows(0)).read_bytes())
    else:  # as many rows at the same positions, with other ids
        renamed = placed.set_column(0, "object_id", pa.compute.add(placed["object_id"], 1))
        other, sizes = write_unsorted_parts(tmp_path / "b", renamed)
        sort_parts(other, sizes, run_in_order, run_rows=1000)
        run.write_bytes(Path(other.sorted_rows(1)).read_bytes())
    with pytest.raises(RuntimeError, match="nothing was published"):
        publish_sorted(layout, totals, placed)
    assert read_manifest(layout.catalog) is None


def test_files_of_an_interrupted_publication_are_removed(rows: pa.Table, tmp_path: Path) -> None:
    layout, sizes = write_unsorted_parts(tmp_path, rows)
    strays = [f"{layout.catalog}/dataset/Norder=9/Dir=0/Npix=5.parquet", f"{layout.catalog}/x", layout.sorted_rows(99)]
    for stray in map(Path, strays):
        stray.parent.mkdir(parents=True, exist_ok=True)
        stray.write_text("left behind")
    publish_sorted(layout, sort_parts(layout, sizes, run_in_order), rows)
    assert verify_catalog(layout.catalog) == []
    assert not Path(layout.sorted_runs).parent.exists()


@pytest.mark.usefixtures("ray_started")
def test_ray_does_the_same_as_one_process(rows: pa.Table, tmp_path: Path) -> None:
    one = publish_rows(tmp_path / "one", rows, 170, 200, 700)
    many = publish_rows(tmp_path / "many", rows, 170, 200, 700, task_runner=run_tasks)
    assert catalog_contents(many) == catalog_contents(one)
    assert verify_catalog(str(many)) == []


def test_a_store_with_transient_failures_gets_the_same_catalog(s3: S3, rows: pa.Table, tmp_path: Path) -> None:
    layout, sizes = write_unsorted_parts(s3.uri, rows)
    for failure in ("503", "reset", "truncated"):
        s3.proxy.fail("/part-000002", failure)
        s3.proxy.fail("/rows-000001", failure)
        s3.proxy.fail("/hashes-000000", failure)
        s3.proxy.fail("catalog/dataset", failure, method="PUT")
    publish_sorted(layout, sort_parts(layout, sizes, run_in_order, 1000), rows)
    assert verify_catalog(layout.catalog) == []
    s3.direct.get(layout.catalog.removeprefix("s3://"), str(tmp_path / "catalog"), recursive=True)
    local = publish_rows(tmp_path / "local", rows, 500, 400)
    assert catalog_contents(tmp_path / "catalog") == catalog_contents(local)
    assert not [name for name in s3.names() if "exchange" in name]
    copied = [request.path for request in s3.proxy.requests if request.method == "PUT" and "catalog/" in request.path]
    assert copied[-1].endswith("/manifest.json")
