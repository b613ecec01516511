"""Row groups of catalog files, one at a time, and the error that names a damaged file."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog.files import RowFile
from galaxy_batch.catalog.row_groups import read_row_group, row_groups
from galaxy_batch.errors import InputError


@pytest.fixture
def file(tmp_path: Path) -> RowFile:
    table = pa.table({"object_id": list(range(10)), "other": ["x"] * 10})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=4)
    return RowFile("rows.parquet", 10, 0, "")


def test_row_groups_come_in_order_with_the_wanted_columns(file: RowFile, tmp_path: Path) -> None:
    read = list(row_groups(str(tmp_path), file, ["object_id"]))
    assert [(number, rows["object_id"].to_pylist()) for number, rows in read] == [
        (0, [0, 1, 2, 3]),
        (1, [4, 5, 6, 7]),
        (2, [8, 9]),
    ]
    assert read_row_group(str(tmp_path), file, 2, ["other"]).to_pydict() == {"other": ["x", "x"]}


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_file_is_named(file: RowFile, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "rows.parquet"
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[:-20])
    with pytest.raises(InputError, match=r"rows\.parquet is damaged, verify the catalog"):
        list(row_groups(str(tmp_path), file, ["object_id"]))
