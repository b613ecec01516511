from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.table import MaskedColumn, Table

from galaxy_batch.errors import InputError
from galaxy_batch.inputs.tables import read_table
from tests.support.manifests import manifest_config

BIG = 1237648720693755918  # beyond 2**53


@pytest.mark.parametrize(
    ("ending", "form"),
    [(".fits", "fits"), (".ecsv", "ascii.ecsv"), (".csv", "ascii.ecsv"), (".vot", "votable"), (".FITS.gz", "fits")],
)
def test_fits_ecsv_and_votable_keep_ids_and_nulls(tmp_path: Path, ending: str, form: str) -> None:
    table = Table(
        {
            "objid": np.array([BIG, BIG + 1, BIG + 2]),
            "ra": MaskedColumn([10.5, 0.0, 359.9], mask=[False, True, False]),
            "dec": [1.0, 2.0, 3.0],
            "name": ["a", "bb", "ccc"],
        }
    )
    path = tmp_path / f"t{ending}"
    table.write(path, format=form)
    read = read_table(str(path), manifest_config(path, keep_columns=("name",)))
    assert read["objid"].to_pylist() == [BIG, BIG + 1, BIG + 2]
    assert read["objid"].type == pa.int64()
    assert [v is None or np.isnan(v) for v in read["ra"].to_pylist()] == [False, True, False]
    assert read["name"].to_pylist() == ["a", "bb", "ccc"]


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.fits").write_bytes(b"not fits")
    (tmp_path / "t.vot").write_bytes(b"<html>503</html>")
    (tmp_path / "t.csv.gz").write_bytes(b"not gzip")
    (tmp_path / "t.txt").write_text("x")
    for name in ("t.fits", "t.vot", "t.csv.gz"):
        with pytest.raises(InputError, match=r"cannot be read as a \.(fits|vot|csv) table"):
            read_table(str(tmp_path / name), manifest_config(tmp_path / name))
    with pytest.raises(InputError, match=r"unknown file ending; known endings: \.parquet"):
        read_table(str(tmp_path / "t.txt"), manifest_config(tmp_path))
    with pytest.raises(InputError, match="no such file"):
        read_table(str(tmp_path / "none.csv"), manifest_config(tmp_path))
