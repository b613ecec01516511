import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog.parts import finished_parts, part_uri, read_part, write_part
from galaxy_batch.rows import Status
from tests.support.parts import SCHEMA, part_rows


def test_a_part_holds_the_catalogs_columns_and_says_what_it_holds(tmp_path: Path) -> None:
    said = write_part(part_rows(7, [2**60, 2**60 + 1, 3]), str(tmp_path), SCHEMA, "dr7", "abc")
    assert said.to_pylist() == [{"chunk": 7, "rows": 3, "failed": 1, "flagged": 1}]
    table = pq.read_table(part_uri(str(tmp_path), 7, Status.MISSING))
    assert table.schema.equals(SCHEMA)
    assert table["object_id"].to_pylist() == [2**60, 2**60 + 1, 3]
    assert set(table["release"].to_pylist()) == {"dr7"}
    assert set(table["model_id"].to_pylist()) == {"abc"}
    assert table.schema.field("dec").metadata[b"unit"] == b"deg"


def test_a_retry_writes_the_same_file_again(tmp_path: Path) -> None:
    write_part(part_rows(0, [1, 2]), str(tmp_path), SCHEMA, "r", "m")
    first = (tmp_path / "part-000000-missing.parquet").read_bytes()
    write_part(part_rows(0, [1, 2]), str(tmp_path), SCHEMA, "r", "m")
    assert (tmp_path / "part-000000-missing.parquet").read_bytes() == first
    assert os.listdir(tmp_path) == ["part-000000-missing.parquet"]


def test_only_whole_parts_count_as_finished(tmp_path: Path) -> None:
    assert finished_parts(str(tmp_path / "nowhere")) == {}
    for chunk in (0, 3, 1234567):
        write_part(part_rows(chunk, [chunk]), str(tmp_path), SCHEMA, "r", "m")
    (tmp_path / ".tmp-part-000001.parquet-x").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("x")
    assert finished_parts(str(tmp_path)).keys() == {0, 3, 1234567}


def test_the_name_of_a_part_shows_failures_that_another_run_may_not_have(tmp_path: Path) -> None:
    folder = str(tmp_path)

    def write(*statuses: str) -> None:
        rows = part_rows(2, [9, 8])
        rows = rows.set_column(rows.column_names.index("status"), "status", pa.array(statuses))
        write_part(rows, folder, SCHEMA, "r", "m")

    def read() -> list[str]:
        statuses: list[str] = read_part(pa.table({"index": [2]}), folder)["status"].to_pylist()
        return statuses

    write("missing", "unreachable")
    assert finished_parts(folder) == {}
    assert finished_parts(folder, keep_unreachable=True) == {2: "unreachable"}
    assert read() == ["missing", "unreachable"]
    write("ok", "missing")
    assert finished_parts(folder) == finished_parts(folder, keep_unreachable=True) == {2: "missing"}
    assert read() == ["ok", "missing"]
    write("ok", "unreadable")
    assert finished_parts(folder) == {2: None}
    write("missing", "unreachable")  # by a task of a worker that was believed dead
    assert finished_parts(folder) == {2: None}
    assert read() == ["ok", "unreadable"]


def test_read_part_gives_rows_with_their_chunk(tmp_path: Path) -> None:
    write_part(part_rows(4, [9, 8]), str(tmp_path), SCHEMA, "r", "m")
    read = read_part(pa.table({"index": [4]}), str(tmp_path))
    assert read["object_id"].to_pylist() == [9, 8]
    assert read["_chunk"].to_pylist() == [4, 4]
    some = read_part(pa.table({"index": [4]}), str(tmp_path), ["status"])
    assert some.column_names == ["status", "_chunk"]


def test_rows_of_two_chunks_are_never_mixed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too many values"):
        write_part(pa.concat_tables([part_rows(0, [1]), part_rows(1, [2])]), str(tmp_path), SCHEMA, "r", "m")
    assert finished_parts(str(tmp_path)) == {}


def test_parts_are_readable_from_memory() -> None:
    write_part(part_rows(0, [1]), "memory://parts-test", SCHEMA, "r", "m")
    assert finished_parts("memory://parts-test").keys() == {0}
    assert len(read_part(pa.table({"index": [0]}), "memory://parts-test")) == 1
