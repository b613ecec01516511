from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from galaxy_batch.catalog.files import file_path
from galaxy_batch.catalog.votable import CONTENT_KEY
from galaxy_batch.sky.healpix import Tile
from tests.support.parts import SCHEMA, write_catalog_files


def test_a_tile_has_a_file_on_the_sky_or_beside_it() -> None:
    assert file_path(Tile(3, 530, 9), 0) == "dataset/Norder=3/Dir=0/Npix=530.parquet"
    assert file_path(Tile(0, 12, 9), 4) == "without_position/part-000004.parquet"


def test_a_file_holds_the_catalogs_columns_and_a_header(tmp_path: Path) -> None:
    written = write_catalog_files(tmp_path)[1]
    path = tmp_path / "catalog" / written.file.path
    table = pq.read_table(path, partitioning=None)
    assert table.schema.equals(SCHEMA)
    assert table.schema.field("dec").metadata[b"unit"] == b"deg"
    assert CONTENT_KEY in table.schema.metadata
    assert (written.file.rows, written.file.bytes) == (3, path.stat().st_size)
    assert pq.read_metadata(pa.BufferReader(written.footer)).num_rows == 3


def test_the_same_rows_are_the_same_file(tmp_path: Path) -> None:
    assert write_catalog_files(tmp_path / "a") == write_catalog_files(tmp_path / "b")
