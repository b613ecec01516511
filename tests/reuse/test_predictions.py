"""A row takes over an answer only where object and cutout are the same."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from galaxy_batch.catalog.parts import origins_of, read_part, write_part
from galaxy_batch.reuse.predictions import Answers, read_answers, recall_answers, reuse_counts, write_answers
from galaxy_batch.storage.sorted_runs import write_run
from tests.support.skies import schema_of, sky_rows, write_parts

NAMES = ["object_id", "_chunk", "image_hash", "p_smooth", "p_featured", "_blank_fraction"]


@pytest.fixture
def answers(tmp_path: Path) -> Answers:
    """Of objects 1 to 6, in chunks 0, 3 and 4; 2 had no usable image, 4 was blank."""
    made = Answers(str(tmp_path), "s3://there", "e", vanished=2, first_chunks=(0, 3))
    p = np.array([0.25, 0.0, 0.75, 0.5, 0.125, 1.0], np.float32)
    table = pa.table({
        "object_id": [1, 2, 3, 4, 5, 6], "_chunk": [0, 0, 0, 3, 3, 4], "image_hash": [11, None, 13, 14, 15, 16],
        "p_smooth": p, "p_featured": 1 - p, "_blank_fraction": np.array([0, 0, 0, 1, 0, 0], np.float32),
    })  # fmt: skip
    write_run(table.slice(0, 3), "_chunk", made.file(0))
    write_run(table.slice(3), "_chunk", made.file(1))
    write_answers(made)
    return made


def chunk(number: int, ids: list[int], hashes: list[int | None]) -> pa.Table:
    return pa.table({
        "object_id": ids, "_chunk": pa.array([number] * len(ids), pa.int32()),
        "image_hash": pa.array(hashes, pa.int64()),
        "status": ["missing" if h is None else "ok" for h in hashes],
        "_image_bytes": pa.array([None if h is None else b"x%d" % h for h in hashes], pa.large_binary()),
    })  # fmt: skip


def test_the_same_cutout_of_the_same_object_is_not_computed_again(answers: Answers) -> None:
    found = recall_answers(chunk(0, [9, 3, 2, 1], [13, 13, 12, 11]), answers)
    assert found["_origin"].to_pylist() == ["new", "reused", "recomputed", "reused"]
    assert found["p_smooth"].to_pylist() == [None, 0.75, None, 0.25]
    assert found["p_featured"].to_pylist() == [None, 0.25, None, 0.75]
    assert found["_blank_fraction"].to_pylist() == [None, 0, None, 0]
    assert found["_image_bytes"].to_pylist() == [b"x13", None, b"x12", None]
    assert found["p_smooth"].type == pa.float32()
    assert found["_image_bytes"].type == pa.large_binary()


def test_another_cutout_a_missing_one_and_one_that_was_missing_are_computed(answers: Answers) -> None:
    found = recall_answers(chunk(0, [1, 2, 3], [111, None, None]), answers)
    assert found["_origin"].to_pylist() == ["recomputed"] * 3
    assert found["p_smooth"].null_count == found["_blank_fraction"].null_count == 3
    assert found["_image_bytes"].to_pylist() == [b"x111", None, None]


def test_each_chunk_looks_into_its_own_file(answers: Answers) -> None:
    blank = recall_answers(chunk(3, [5, 4], [15, 14]), answers)
    assert blank["_blank_fraction"].to_pylist() == [0, 1]
    assert recall_answers(chunk(4, [6], [16]), answers)["_origin"].to_pylist() == ["reused"]
    assert recall_answers(chunk(2, [1], [11]), answers)["_origin"].to_pylist() == ["new"]


def test_without_an_earlier_catalog_rows_pass_as_they_are(answers: Answers) -> None:
    rows = chunk(0, [1], [11])
    assert recall_answers(rows, None) is rows


def test_answers_are_there_when_they_say_so(answers: Answers, tmp_path: Path) -> None:
    assert read_answers(str(tmp_path)) == answers
    assert read_answers(str(tmp_path / "elsewhere")) is None


def test_a_part_remembers_where_its_answers_come_from(tmp_path: Path) -> None:
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


def test_counts_add_up_to_the_manifest(answers: Answers) -> None:
    assert reuse_counts(10, Counter(), None) is None
    assert reuse_counts(10, {"reused": 6, "new": 3}, answers) == {
        "catalog_uri": "s3://there", "reused": 6, "recomputed": 0, "new": 3, "vanished": 2, "not_compared": 1,
    }  # fmt: skip
    late = reuse_counts(4, {"reused": 4}, None)
    assert late
    assert (late["catalog_uri"], late["vanished"], late["not_compared"]) == (None, None, 0)
