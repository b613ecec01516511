import astropy.units as u
import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, Table

from galaxy_batch.errors import InputError
from galaxy_batch.inputs.astropy_columns import arrow_table, declared_frames, simple_columns
from tests.support.manifests import manifest_config


def test_arrow_columns_declare_unit_and_frame() -> None:
    table = Table({"ra": [1.5] * u.arcsec, "dec": MaskedColumn([2.5], mask=[True]), "n": np.array([5], ">i8")})
    columns = {name: table[name] for name in table.colnames}
    rows = arrow_table(columns, {"RADESYS": "FK5"}, {"dec": {"ucd": "pos.eq.dec"}}, manifest_config("t"))
    assert rows.to_pydict() == {"ra": [1.5], "dec": [None], "n": [5]}
    assert rows.schema.field("ra").metadata == {b"unit": b"arcsec", b"frame": b"fk5"}
    assert rows.schema.field("dec").metadata == {b"frame": b"fk5", b"ucd": b"pos.eq.dec"}


def test_a_column_that_cannot_be_converted_is_named() -> None:
    with pytest.raises(InputError, match=r"manifest\.ra_column = 'ra': a column of type complex128 cannot be used"):
        arrow_table({"ra": Table({"ra": [1j]})["ra"]}, {}, {}, manifest_config("t"))


def test_coordinates_become_columns_with_their_frame() -> None:
    table = Table({"n": [1]})
    assert simple_columns(table) is table
    table["coord"] = SkyCoord([10.5], [-0.5], unit="deg", frame="fk4")
    simple = simple_columns(table)
    assert simple.colnames == ["n", "coord.ra", "coord.dec"]
    rows = arrow_table({"coord.ra": simple["coord.ra"]}, simple.meta, {}, manifest_config("t"))
    assert rows.schema.field("coord.ra").metadata == {b"unit": b"deg", b"frame": b"fk4 1950"}
    assert rows["coord.ra"].type == pa.float64()


def test_frames_that_metadata_declares() -> None:
    meta = {"radecsys": "FK5", "EQUINOX": "J1975", "__serialized_columns__": {"coord": {"frame": "galactic"}}}
    frame_of = declared_frames(meta)
    assert [frame_of("ra"), frame_of("coord.l")] == ["fk5 1975", "galactic"]
    assert declared_frames({})("ra") == ""
