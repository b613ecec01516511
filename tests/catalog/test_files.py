from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from galaxy_batch.catalog.files import CatalogFileHeader, file_path, write_catalog_file
from galaxy_batch.catalog.parts import read_part, write_part
from galaxy_batch.catalog.votable import CONTENT_KEY
from galaxy_batch.sky.healpix import Tile
from tests.catalog.test_parts import SCHEMA, rows

HEADING = CatalogFileHeader(SCHEMA, "r", "m")


def test_a_tile_has_a_file_on_the_sky_or_beside_it() -> None:
    assert file_path(Tile(3, 530, 9), 0) == "dataset/Norder=3/Dir=0/Npix=530.parquet"
    assert file_path(Tile(0, 12, 9), 4) == "without_position/part-000004.parquet"


def written(folder: Path) -> list[dict[str, Any]]:
    entries = []
    for chunk, ids in enumerate(([1, 2], [3, 4, 5])):
        write_part(rows(chunk, ids), str(folder / "parts"), SCHEMA, "r", "m")
        part = read_part(pa.table({"index": [chunk]}), str(folder / "parts"))
        entries.append(write_catalog_file(part, file_path(Tile(0, chunk, 0), 0), HEADING, str(folder / "catalog")))
    return entries


def test_a_file_holds_the_catalogs_columns_and_a_header(tmp_path: Path) -> None:
    entry = written(tmp_path)[1]
    file = tmp_path / "catalog" / entry["path"]
    found = pq.read_table(file, partitioning=None)
    assert found.schema.equals(SCHEMA)
    assert found.schema.field("dec").metadata[b"unit"] == b"deg"
    assert CONTENT_KEY in found.schema.metadata
    assert (entry["rows"], entry["bytes"]) == (3, file.stat().st_size)
    assert pq.read_metadata(pa.BufferReader(entry["footer"])).num_rows == 3


def test_the_same_rows_are_the_same_file(tmp_path: Path) -> None:
    assert [entry["sha256"] for entry in written(tmp_path / "a")] == [e["sha256"] for e in written(tmp_path / "b")]
