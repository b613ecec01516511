"""Small part files, and catalog files made from them."""

from pathlib import Path

import pyarrow as pa

from galaxy_batch.catalog.files import CatalogFileHeader, WrittenFile, file_path, write_catalog_file
from galaxy_batch.catalog.parts import read_part, write_part
from galaxy_batch.rows import catalog_schema
from galaxy_batch.sky.healpix import Tile

SCHEMA = catalog_schema(pa.int64(), ["smooth", "featured"])


def part_rows(chunk: int, ids: list[int]) -> pa.Table:
    n = len(ids)
    columns = {
        "object_id": ids,
        "ra": [1.0] * n,
        "dec": [2.0] * n,
        "predicted_class": pa.array([*["smooth"] * (n - 1), None]),
        "confidence": pa.array([0.9] * n, pa.float32()),
        "p_smooth": pa.array([0.9] * n, pa.float32()),
        "p_featured": pa.array([0.1] * n, pa.float32()),
        "unfamiliarity": pa.array([1.0] * n, pa.float32()),
        "instability": pa.array([None] * n, pa.float32()),
        "review_flags": pa.array([0] * (n - 1) + [2], pa.int32()),
        "needs_review": [*[False] * (n - 1), True],
        "status": [*["ok"] * (n - 1), "missing"],
        "error": pa.array([*[None] * (n - 1), "no such file"], pa.string()),
        "image_hash": pa.array([1] * n),
        "_healpix_29": pa.array([5] * n),
        "_chunk": pa.array([chunk] * n, pa.int32()),
    }
    return pa.table(columns)


HEADER = CatalogFileHeader(SCHEMA, "r", "m")


def write_catalog_files(folder: Path) -> list[WrittenFile]:
    files = []
    for chunk, ids in enumerate(([1, 2], [3, 4, 5])):
        write_part(part_rows(chunk, ids), str(folder / "parts"), SCHEMA, "r", "m")
        part = read_part(pa.table({"index": [chunk]}), str(folder / "parts"))
        files.append(write_catalog_file(part, file_path(Tile(0, chunk, 0), 0), HEADER, str(folder / "catalog")))
    return files
