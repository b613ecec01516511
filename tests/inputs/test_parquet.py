from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table

from galaxy_batch.catalog.votable import described
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.parquet import open_parquet_table
from tests.support.manifests import manifest_config, manifest_rows

RA, DEC = np.array([10.5, 359.5, 200.0]), np.array([-0.5, 61.0, 0.0])
TABLE = pa.table({"objid": [5, 6, 7], "ra": RA, "dec": DEC})


def fields(unit: str, **about: str) -> pa.Schema:
    schema = TABLE.schema
    for name in ("ra", "dec"):
        number = schema.get_field_index(name)
        schema = schema.set(number, schema.field(number).with_metadata({"unit": unit, **about}))
    return schema


@pytest.mark.parametrize("header", ["fields", "astropy", "VOTable"])
def test_declared_units_are_converted(tmp_path: Path, header: str) -> None:
    path, radians = tmp_path / "t.parquet", [np.radians(RA), np.radians(DEC)]
    if header == "astropy":
        table = Table({"objid": [5, 6, 7], "ra": radians[0], "dec": radians[1]}, units={"ra": "rad", "dec": "rad"})
        table.write(path, format="parquet")
    else:
        schema = fields("rad")
        if header == "VOTable":
            schema = TABLE.schema.with_metadata(described(schema, "objects", {}).metadata)
        pq.write_table(pa.table([TABLE["objid"], *map(pa.array, radians)], schema=schema), path)
    rows = manifest_rows(manifest_config(path), chunk_rows=2)
    assert rows["ra"].to_pylist() == pytest.approx(RA.tolist())
    assert rows["dec"].to_pylist() == pytest.approx(DEC.tolist())


def test_declared_frames_are_checked(tmp_path: Path) -> None:
    pq.write_table(TABLE.cast(fields("deg", ucd="pos.galactic.lon")), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="declares the frame 'galactic'"):
        manifest_rows(manifest_config(tmp_path / "t.parquet"))
    table = Table({"objid": [5, 6, 7], "coord": SkyCoord(RA, DEC, unit="deg", frame="fk4")})
    table.write(tmp_path / "t.parquet", format="parquet", overwrite=True)
    with pytest.raises(InputError, match="declares the frame 'fk4"):
        manifest_rows(manifest_config(tmp_path / "t.parquet", ra_column="coord.ra", dec_column="coord.dec"))


def test_columns_of_the_path_are_read(tmp_path: Path) -> None:
    for order, rows in ((5, TABLE.slice(0, 1)), (6, TABLE.slice(1))):
        folder = tmp_path / f"dataset/Norder={order}/Dir=0"
        folder.mkdir(parents=True)
        pq.write_table(rows, folder / f"Npix={order * 3}.parquet", row_group_size=1)
    pq.write_table(TABLE.slice(0, 1), tmp_path / "dataset" / "data_thumbnail.parquet")
    config = manifest_config(tmp_path, keep_columns=("Norder as tile_order", "Npix as pixel"))
    rows = manifest_rows(config, chunk_rows=1)
    assert rows["object_id"].to_pylist() == [5, 6, 7]
    assert rows["tile_order"].to_pylist() == [5, 6, 6]
    assert rows["pixel"].to_pylist() == [15, 18, 18]
    assert rows["_image_uri"].to_pylist() == [f"{tmp_path}/{n}.jpg" for n in (5, 6, 7)]


def test_pieces_of_a_file_have_the_wanted_columns_in_order(tmp_path: Path) -> None:
    (tmp_path / "field=007").mkdir()
    path = tmp_path / "field=007" / "t.parquet"
    pq.write_table(TABLE, path, row_group_size=2)
    with open_parquet_table(str(path)) as table:
        assert table.group_rows == [2, 1]
        columns = ["field", "objid"]
        assert table.read([0, 1], columns).to_pydict() == {"field": ["007"] * 3, "objid": [5, 6, 7]}
        assert [b.to_pydict() for b in table.batches(0, columns, 1)] == [
            {"field": ["007"], "objid": [n]} for n in (5, 6)
        ]
        assert table.empty(columns).schema.names == columns


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"<html>503</html>")
    with pytest.raises(InputError, match=r"manifest\.uri = .*t\.parquet.*: cannot be read as Parquet"):
        manifest_rows(manifest_config(tmp_path / "t.parquet"))
