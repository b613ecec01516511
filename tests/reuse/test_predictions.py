"""A row reuses predictions only where object and cutout are the same."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from galaxy_batch.catalog.parts import origins_of, read_part, write_part
from galaxy_batch.reuse.predictions import (
    PreviousPredictions,
    read_predictions,
    reuse_counts,
    reuse_predictions,
    write_predictions,
)
from galaxy_batch.storage.sorted_runs import write_run
from tests.support.skies import schema_of, sky_rows, write_parts


@pytest.fixture
def predictions(tmp_path: Path) -> PreviousPredictions:
    """For objects 1 to 6, in chunks 0, 3 and 4; 2 had no usable image, 4 was blank."""
    written = PreviousPredictions(str(tmp_path), "s3://there", "e", vanished=2, first_chunks=(0, 3))
    p = np.array([0.25, 0.0, 0.75, 0.5, 0.125, 1.0], np.float32)
    table = pa.table({
        "object_id": [1, 2, 3, 4, 5, 6], "_chunk": [0, 0, 0, 3, 3, 4], "image_hash": [11, None, 13, 14, 15, 16],
        "p_smooth": p, "p_featured": 1 - p, "_pixel_flags": np.array([0, 0, 0, 4, 0, 0], np.int32),
    })  # fmt: skip
    write_run(table.slice(0, 3), "_chunk", written.file(0))
    write_run(table.slice(3), "_chunk", written.file(1))
    write_predictions(written)
    return written


def chunk(number: int, ids: list[int], hashes: list[int | None]) -> pa.Table:
    return pa.table({
        "object_id": ids, "_chunk": pa.array([number] * len(ids), pa.int32()),
        "image_hash": pa.array(hashes, pa.int64()),
        "status": ["missing" if h is None else "ok" for h in hashes],
        "_image_bytes": pa.array([None if h is None else b"x%d" % h for h in hashes], pa.large_binary()),
    })  # fmt: skip


def test_the_predictions_of_the_same_object_and_cutout_are_reused(predictions: PreviousPredictions) -> None:
    rows = reuse_predictions(chunk(0, [9, 3, 2, 1], [13, 13, 12, 11]), predictions)
    assert rows["_origin"].to_pylist() == ["new", "reused", "recomputed", "reused"]
    assert rows["p_smooth"].to_pylist() == [None, 0.75, None, 0.25]
    assert rows["p_featured"].to_pylist() == [None, 0.25, None, 0.75]
    assert rows["_pixel_flags"].to_pylist() == [None, 0, None, 0]
    assert rows["_image_bytes"].to_pylist() == [b"x13", None, b"x12", None]
    assert rows["p_smooth"].type == pa.float32()
    assert rows["_image_bytes"].type == pa.large_binary()


def test_changed_missing_and_formerly_missing_cutouts_are_computed(predictions: PreviousPredictions) -> None:
    rows = reuse_predictions(chunk(0, [1, 2, 3], [111, None, None]), predictions)
    assert rows["_origin"].to_pylist() == ["recomputed"] * 3
    assert rows["p_smooth"].null_count == rows["_pixel_flags"].null_count == 3
    assert rows["_image_bytes"].to_pylist() == [b"x111", None, None]


def test_each_chunk_reads_its_own_file(predictions: PreviousPredictions) -> None:
    blank = reuse_predictions(chunk(3, [5, 4], [15, 14]), predictions)
    assert blank["_pixel_flags"].to_pylist() == [0, 4]
    assert reuse_predictions(chunk(4, [6], [16]), predictions)["_origin"].to_pylist() == ["reused"]
    assert reuse_predictions(chunk(2, [1], [11]), predictions)["_origin"].to_pylist() == ["new"]


def test_rows_are_unchanged_without_a_previous_catalog(predictions: PreviousPredictions) -> None:
    rows = chunk(0, [1], [11])
    assert reuse_predictions(rows, None) is rows


def test_predictions_are_read_once_they_are_complete(predictions: PreviousPredictions, tmp_path: Path) -> None:
    assert read_predictions(str(tmp_path)) == predictions
    assert read_predictions(str(tmp_path / "elsewhere")) is None


def test_a_part_records_the_origins_of_its_rows(tmp_path: Path) -> None:
    rows = sky_rows(6)
    write_parts(tmp_path, rows, 6)
    index = pa.table({"index": [0]})
    assert origins_of(read_part(index, str(tmp_path))) == {}
    marked = rows.append_column("_origin", pa.array(["new", "reused", "reused", "recomputed", "reused", "new"]))
    marked = marked.append_column("_chunk", pa.array([0] * 6, pa.int32()))
    write_part(marked, str(tmp_path), schema_of(rows), "r", "m")
    part = read_part(index, str(tmp_path))
    assert origins_of(part) == {"new": 2, "reused": 3, "recomputed": 1}
    assert "_origin" not in part.column_names


def test_counts_add_up_to_the_manifest(predictions: PreviousPredictions) -> None:
    assert reuse_counts(10, Counter(), None) is None
    assert reuse_counts(10, {"reused": 6, "new": 3}, predictions) == {
        "catalog_uri": "s3://there", "reused": 6, "recomputed": 0, "new": 3, "vanished": 2, "not_compared": 1,
    }  # fmt: skip
    resumed = reuse_counts(4, {"reused": 4}, None)
    assert resumed
    assert (resumed["catalog_uri"], resumed["vanished"], resumed["not_compared"]) == (None, None, 0)
