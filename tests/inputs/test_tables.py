from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import MaskedColumn, Table

from galaxy_batch.errors import InputError
from galaxy_batch.inputs.tables import manifest_files, read_table

BIG = 1237648720693755918  # beyond 2**53


@pytest.fixture
def table() -> Table:
    return Table(
        {
            "id": np.array([BIG, BIG + 1, BIG + 2]),
            "ra": MaskedColumn([10.5, 0.0, 359.9], mask=[False, True, False]),
            "name": ["a", "bb", "ccc"],
        }
    )


@pytest.mark.parametrize(
    ("ending", "form"), [(".fits", "fits"), (".ecsv", "ascii.ecsv"), (".vot", "votable"), (".fits.gz", "fits")]
)
def test_fits_ecsv_and_votable_keep_ids_and_nulls(tmp_path: Path, table: Table, ending: str, form: str) -> None:
    path = tmp_path / f"t{ending}"
    table.write(path, format=form)
    read = read_table(str(path), ["id"])
    assert read["id"].to_pylist() == [BIG, BIG + 1, BIG + 2]
    assert read["id"].type == pa.int64()
    assert [v is None or np.isnan(v) for v in read["ra"].to_pylist()] == [False, True, False]
    assert read["name"].to_pylist() == ["a", "bb", "ccc"]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([str(BIG), str(BIG + 1)], [BIG, BIG + 1]),
        (["-5", "7"], [-5, 7]),
        (["007", "8"], ["007", "8"]),
        (["9223372036854775808", "1"], ["9223372036854775808", "1"]),
        (["1e5", "2"], ["1e5", "2"]),
        (["J1237+02", "x"], ["J1237+02", "x"]),
    ],
)
def test_csv_ids_are_exact(tmp_path: Path, ids: list[str], expected: list[object]) -> None:
    (tmp_path / "t.csv").write_text("id,z\n" + "\n".join(f"{i},0.1" for i in ids) + "\n")
    assert read_table(str(tmp_path / "t.csv"), ["id"])["id"].to_pylist() == expected


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.fits").write_bytes(b"not fits")
    (tmp_path / "t.txt").write_text("x")
    with pytest.raises(InputError, match=r"cannot be read as a \.fits table"):
        read_table(str(tmp_path / "t.fits"))
    with pytest.raises(InputError, match=r"unknown file ending; known endings: \.parquet"):
        read_table(str(tmp_path / "t.txt"))
    with pytest.raises(InputError, match="no such file"):
        read_table(str(tmp_path / "none.csv"))


def test_a_manifest_is_a_file_a_glob_or_a_folder(tmp_path: Path) -> None:
    for name in ("b.parquet", "a.parquet", "_metadata.parquet"):
        pq.write_table(pa.table({"x": [1]}), tmp_path / name)
    both = [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]
    assert manifest_files(str(tmp_path)) == both
    assert manifest_files(str(tmp_path / "[ab].parquet")) == both
    assert manifest_files(both[1]) == both[1:]
    with pytest.raises(InputError, match="no such file"):
        manifest_files(str(tmp_path / "c*.parquet"))
