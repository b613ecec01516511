import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.errors import InputError
from galaxy_batch.reviewed_objects import read_import, read_reviewed, reviewed_schema
from galaxy_batch.verdicts.table import rejected_schema, verdicts_schema, write_tables


def write_import(folder: Path, ids: list[int]) -> None:
    """An import without verdicts, and a decision about each object."""
    rows = [{"object_id": one, "reviewed_class": "smooth", "verdicts": 1} for one in ids]
    write_tables(
        str(folder),
        verdicts_schema(pa.int64()).empty_table(),
        pa.Table.from_pylist(rows, schema=reviewed_schema(pa.int64())),
        rejected_schema().empty_table(),
        {"merge": None},
    )


def test_reviewed_objects_of_a_folder_and_of_a_file(tmp_path: Path) -> None:
    write_import(tmp_path, [3, 2**62 + 1])
    of_folder, alone = read_reviewed(str(tmp_path)), read_reviewed(str(tmp_path / "reviewed.parquet"))
    assert of_folder.rows["object_id"].to_pylist() == [3, 2**62 + 1]
    assert of_folder.sha256 == alone.sha256
    assert (of_folder.record["merge"], alone.record) == (None, {})


def test_an_import_that_did_not_finish_is_none(tmp_path: Path) -> None:
    write_import(tmp_path, [1])
    (tmp_path / "import.json").unlink()
    assert read_import(str(tmp_path)) is None
    with pytest.raises(InputError, match=r"holds no verdicts of jobs.import_verdicts: no import\.json"):
        read_reviewed(str(tmp_path))


def columns(**values: object) -> pa.Table:
    """Rows of merged verdicts, null but for the given columns."""
    return pa.table({**{name: pa.nulls(2) for name in reviewed_schema(pa.int64()).names}, **values})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"x": [1]}), "has no column object_id"),
        (pa.table({"object_id": [1.5]}), "has no column object_id of integers or texts"),
        (pa.table({"object_id": [1]}), "has no column reviewed_class"),
        (columns(object_id=[1, 1]), "object twice"),
        (columns(object_id=[1, 2], reviewed_probability=["x", "y"]), "reviewed_probability is string: .* is double"),
    ],
)
def test_other_tables_are_refused(tmp_path: Path, table: pa.Table, message: str) -> None:
    pq.write_table(table, tmp_path / "reviewed.parquet")
    with pytest.raises(InputError, match=message):
        read_reviewed(str(tmp_path / "reviewed.parquet"))


def test_types_that_pandas_writes_are_the_same_table(tmp_path: Path) -> None:
    ids, classes = pa.array(["a", "b"], pa.large_string()), pa.array(["smooth", None], pa.large_string())
    pq.write_table(columns(object_id=ids, reviewed_class=classes), tmp_path / "reviewed.parquet")
    rows = read_reviewed(str(tmp_path / "reviewed.parquet")).rows
    assert rows.schema.equals(reviewed_schema(pa.string()))
    assert rows["object_id"].to_pylist() == ["a", "b"]


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    write_import(tmp_path, [1])
    (tmp_path / "reviewed.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="is not a Parquet file"):
        read_reviewed(str(tmp_path))
    with pytest.raises(InputError, match="no such file"):
        read_reviewed(str(tmp_path / "other.parquet"))
    (tmp_path / "import.json").write_text(json.dumps({"format": 9}))
    with pytest.raises(InputError, match="its format is 9; this version reads format 1"):
        read_reviewed(str(tmp_path))
    (tmp_path / "import.json").write_text("{")
    with pytest.raises(InputError, match="is damaged: not JSON"):
        read_import(str(tmp_path))
