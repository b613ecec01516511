"""From parts to a catalog: every row once, in its place, whatever the parts look like and whatever dies."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog import publish as publication
from galaxy_batch.catalog.layout import read_manifest
from galaxy_batch.catalog.sort_parts import Places, run_tasks, sort_parts
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.rows import ReviewFlag
from tests.support.s3_server import S3
from tests.support.skies import (
    REVIEW,
    catalog_contents,
    publish_rows,
    publish_sorted,
    read_catalog,
    run_in_order,
    sky_rows,
    write_parts,
    write_unsorted_parts,
)

ROWS = 3000


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return sky_rows(ROWS, seed=9, without_position=0.1)


def test_every_row_is_in_one_file_as_it_was(rows: pa.Table, tmp_path: Path) -> None:
    catalog = publish_rows(tmp_path, rows, part_rows=170, max_rows=200, run_rows=700)
    assert verify_catalog(str(catalog)) == []
    found, wanted = read_catalog(catalog), rows.sort_by("object_id")
    for name in wanted.column_names:
        if name not in ("review_flags", "needs_review"):
            assert found[name].equals(wanted[name]), name
    assert not (tmp_path / "exchange").exists()
    assert len(list(catalog.glob("without_position/*"))) == 4
    sizes = [pq.read_metadata(file).num_rows for file in catalog.rglob("*.parquet")]
    assert max(sizes) <= 200


def test_repeated_images_are_counted_over_all_parts(rows: pa.Table, tmp_path: Path) -> None:
    hashes = rows["image_hash"].to_pylist()
    hashes[0] = hashes[-1] = 77  # too few, far apart
    hashes[5] = hashes[1500] = hashes[-2] = -(2**63)  # just enough
    hashes[6] = hashes[1501] = hashes[-3] = 2**63 - 1
    changed = rows.set_column(rows.column_names.index("image_hash"), "image_hash", pa.array(hashes, pa.int64()))
    found = read_catalog(publish_rows(tmp_path, changed, 170, 200, 700))
    times = Counter(value for value in hashes if value is not None)
    for row in found.select(["image_hash", "review_flags", "needs_review"]).to_pylist():
        repeated = times[row["image_hash"]] >= REVIEW.min_repeats
        assert bool(row["review_flags"] & ReviewFlag.REPEATED_IMAGE) == repeated
        assert row["needs_review"] == (row["review_flags"] != 0)
    assert {-(2**63), 2**63 - 1, 42} <= {value for value, count in times.items() if count >= 3}


def test_many_shares_of_hashes_are_as_one(rows: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = catalog_contents(publish_rows(tmp_path / "one", rows))
    monkeypatch.setattr(publication, "_HASHES_AT_ONCE", 100)
    assert catalog_contents(publish_rows(tmp_path / "many", rows)) == one


def test_the_catalog_does_not_depend_on_how_the_parts_were_cut_or_ordered(rows: pa.Table, tmp_path: Path) -> None:
    wanted = catalog_contents(publish_rows(tmp_path / "a", rows, 1000, 300, 5000))
    order = np.random.default_rng(1).permutation(len(rows))
    assert catalog_contents(publish_rows(tmp_path / "b", rows.take(pa.array(order)), 130, 300, 400)) == wanted
    assert len(wanted) > 15


def test_objects_at_one_place_share_a_file_however_many(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ra, dec = np.full(500, 10.0), np.full(500, 20.0)
    catalog = publish_rows(tmp_path, sky_rows(500, positions=(ra, dec)), 60, 100, 120)
    assert verify_catalog(str(catalog)) == []
    (file,) = catalog.glob("dataset/**/*.parquet")
    assert "Norder=10" in str(file)
    assert pq.read_table(file, partitioning=None)["object_id"].to_pylist() == sorted(
        read_catalog(catalog)["object_id"].to_pylist()
    )
    assert "1 pixels of order 10, the smallest that there are, hold more than max_rows = 100 rows" in caplog.text


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_survey_with_all_positions_or_none(share: float, tmp_path: Path) -> None:
    catalog = publish_rows(tmp_path, sky_rows(400, without_position=share), 100, 150, 300)
    assert verify_catalog(str(catalog)) == []
    manifest = read_manifest(str(catalog))
    assert manifest
    assert manifest["without_position"] == 400 * share
    beside = [pq.read_metadata(file).num_rows for file in catalog.glob("without_position/*.parquet")]
    assert sum(beside) == 400 * share
    assert beside == [0] or share
    assert bool(list(catalog.glob("dataset/Norder*"))) == (not share)


def test_kept_columns_of_any_type_come_through(tmp_path: Path) -> None:
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
    found, wanted = read_catalog(catalog), rows.sort_by("object_id")
    for name in kept:
        assert found[name].to_pylist() == wanted[name].to_pylist(), name


def test_a_single_row_is_a_catalog(tmp_path: Path) -> None:
    catalog = publish_rows(tmp_path, sky_rows(1))
    assert verify_catalog(str(catalog)) == []


@pytest.mark.parametrize("change", ["lost", "doubled", "exchanged"])
def test_rows_that_change_on_the_way_publish_nothing(rows: pa.Table, tmp_path: Path, change: str) -> None:
    places, sizes = write_unsorted_parts(tmp_path, rows)
    survey = sort_parts(places, sizes, run_in_order, run_rows=1000)
    run = Path(places.run(1))
    if change == "lost":
        sort_parts(Places(places.parts_uri, str(tmp_path / "short"), ""), sizes[:3], run_in_order, run_rows=1000)
        run.write_bytes((tmp_path / "short" / "rows-000001.arrow").read_bytes())
    elif change == "doubled":
        run.write_bytes(Path(places.run(0)).read_bytes())
    else:  # as many rows in the same places, with other ids
        other = rows.set_column(0, "object_id", pa.compute.add(rows["object_id"], 1))
        other = other.filter(other["ra"].is_valid())
        keep = rows.filter(rows["ra"].is_valid())
        there, sizes = write_unsorted_parts(tmp_path / "keep", keep)
        survey = sort_parts(there, sizes, run_in_order)
        elsewhere, _ = write_unsorted_parts(tmp_path / "other", other)
        sort_parts(elsewhere, sizes, run_in_order)
        Path(there.run(0)).write_bytes(Path(elsewhere.run(0)).read_bytes())
        places = there
    with pytest.raises(RuntimeError, match="nothing was published"):
        publish_sorted(places, survey, rows)
    assert read_manifest(places.catalog_uri) is None


def test_remains_of_an_earlier_publication_are_removed(rows: pa.Table, tmp_path: Path) -> None:
    places, sizes = write_unsorted_parts(tmp_path, rows)
    for stray in ("catalog/dataset/Norder=9/Dir=0/Npix=5.parquet", "catalog/x", "exchange/rows-000099.arrow"):
        (tmp_path / stray).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / stray).write_text("remains")
    publish_sorted(places, sort_parts(places, sizes, run_in_order), rows)
    assert verify_catalog(places.catalog_uri) == []
    assert not (tmp_path / "exchange").exists()


@pytest.mark.usefixtures("ray_started")
def test_ray_does_the_same_as_one_process(rows: pa.Table, tmp_path: Path) -> None:
    one = publish_rows(tmp_path / "one", rows, 170, 200, 700)
    many = publish_rows(tmp_path / "many", rows, 170, 200, 700, spread=run_tasks)
    assert catalog_contents(many) == catalog_contents(one)
    assert verify_catalog(str(many)) == []


def test_a_store_that_stumbles_gets_the_same_catalog(s3: S3, rows: pa.Table, tmp_path: Path) -> None:
    places = Places(f"{s3.uri}/parts", f"{s3.uri}/exchange", f"{s3.uri}/catalog")
    sizes = write_parts(places.parts_uri, rows, 500)
    for answer in ("503", "reset", "truncated"):
        s3.proxy.fail("parts/part-000002", answer)
        s3.proxy.fail("exchange/rows-000001", answer)
        s3.proxy.fail("exchange/hashes-000000", answer)
        s3.proxy.fail("catalog/dataset", answer, method="PUT")
    publish_sorted(places, sort_parts(places, sizes, run_in_order, 1000), rows)
    assert verify_catalog(places.catalog_uri) == []
    s3.direct.get(f"{s3.bucket}/catalog", str(tmp_path / "catalog"), recursive=True)
    assert catalog_contents(tmp_path / "catalog") == catalog_contents(publish_rows(tmp_path / "local", rows, 500, 400))
    assert not [name for name in s3.names() if "exchange" in name]
    copied = [request.path for request in s3.proxy.requests if request.method == "PUT" and "catalog/" in request.path]
    assert copied[-1].endswith("/manifest.json")
