import errno
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog.files import RowFile
from galaxy_batch.catalog.read_files import (
    DamagedCatalogError,
    files_in_turn,
    read_file,
    read_row_group,
    read_schema,
    row_groups,
)
from galaxy_batch.errors import InputError
from galaxy_batch.storage import retries

FILE = RowFile("rows.parquet", 5, 0, "")


@pytest.fixture
def catalog_uri(tmp_path: Path) -> str:
    pq.write_table(pa.table({"object_id": range(5), "ra": [0.0] * 5}), tmp_path / "rows.parquet", row_group_size=2)
    return str(tmp_path)


def test_row_groups_come_in_order_with_the_columns_asked_for(catalog_uri: str) -> None:
    groups = {number: rows.to_pydict() for number, rows in row_groups(catalog_uri, FILE, ["object_id"])}
    assert groups == {0: {"object_id": [0, 1]}, 1: {"object_id": [2, 3]}, 2: {"object_id": [4]}}
    assert read_row_group(catalog_uri, FILE, 2, ["ra"]).to_pydict() == {"ra": [0.0]}


def test_the_schema_has_the_descriptions_of_the_columns(catalog_uri: str) -> None:
    with pytest.raises(InputError, match="_common_metadata is missing: verify the catalog"):
        read_schema(catalog_uri)
    schema = pa.schema([pa.field("ra", pa.float64(), metadata={"unit": "deg"})])
    (Path(catalog_uri) / "dataset").mkdir()
    pq.write_metadata(schema, Path(catalog_uri) / "dataset" / "_common_metadata")
    assert read_schema(catalog_uri).field("ra").metadata[b"unit"] == b"deg"


def test_a_missing_file_is_named(catalog_uri: str) -> None:
    with pytest.raises(InputError, match=r"old_uri.*other.parquet is missing: verify the catalog"):
        read_file(catalog_uri, "other.parquet", lambda parquet: parquet.read(), "old_uri")


def test_a_damaged_file_and_a_missing_column_are_named(catalog_uri: str) -> None:
    with pytest.raises(InputError, match=r"rows.parquet is damaged, verify the catalog.*galaxy"):
        read_file(catalog_uri, "rows.parquet", lambda parquet: parquet.read()["galaxy"])
    file = Path(catalog_uri) / "rows.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"catalog_uri.*rows.parquet is damaged"):
        read_row_group(catalog_uri, FILE, 0, ["object_id"])


def test_damage_on_a_local_disk_is_reported_at_once(catalog_uri: str) -> None:
    attempts = []

    def read(parquet: pq.ParquetFile) -> None:
        attempts.append(parquet)
        raise OSError("Couldn't deserialize thrift")  # as pyarrow says it

    with pytest.raises(DamagedCatalogError, match=r"rows.parquet is damaged, verify the catalog: Couldn't"):
        read_file(catalog_uri, "rows.parquet", read)
    assert len(attempts) == 1


def test_a_store_that_fails_for_a_moment_is_asked_again(catalog_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries.time, "sleep", lambda _: None)
    errors = [TimeoutError("slow"), ConnectionResetError(errno.ECONNRESET, "reset")]

    def read(parquet: pq.ParquetFile) -> int:
        if errors:
            raise errors.pop()
        return int(parquet.metadata.num_rows)

    assert read_file(catalog_uri, "rows.parquet", read) == 5
    assert not errors


def test_an_error_of_the_disk_is_no_damage(catalog_uri: str) -> None:
    def read(_: pq.ParquetFile) -> None:
        raise PermissionError(errno.EACCES, "denied")

    with pytest.raises(PermissionError):
        read_file(catalog_uri, "rows.parquet", read)


def test_files_are_read_a_few_at_a_time_in_their_order() -> None:
    files = [RowFile(f"{number}.parquet", number, 0, "") for number in range(11)]
    started: list[int] = []

    def read(number: int, file: RowFile) -> int:
        started.append(number)
        return file.rows

    results = files_in_turn(files, "reading", read)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert max(started) < 4, "no file of the next group was read ahead"
    assert list(results) == list(range(3, 11))
    assert sorted(started) == list(range(11))
