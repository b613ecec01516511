"""The files that make a folder of Parquet files a HATS catalog (IVOA Note HATS 1.0, 2025), as LSDB and hats read it.

::

    hats.properties                                what it is, how it is cut, where it comes from
    partition_info.csv                             the pixels that have a file, and their rows
    skymap.fits                                    rows in each pixel of order 6
    dataset/_common_metadata                       the schema, with the VOTable header
    dataset/_metadata                              the footers of all files: what a reader needs to skip files
    dataset/Norder=<k>/Dir=<d>/Npix=<p>.parquet    the rows of pixel p of order k, d = 10000 ⌊p / 10000⌋

What the Note leaves to choice and is left out here: the margin cache, because it holds rows a second time, a catalog
of its own that `hats-import` makes from this one for the radius that a crossmatch needs (LSDB wants it of the right
catalog of a crossmatch, not of the left); the thumbnail, because a query with LIMIT gives one; `properties`, the old
name of `hats.properties`; and the downsampled skymaps, which readers can sum from the one.

pyarrow and astropy write all of it: the libraries that usually do so bring Dask, numba and 700 MB.
"""

import csv
import io
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits

from galaxy_batch.sky.healpix import BASE_PIXELS, Tile

__all__ = [
    "COMMON_METADATA",
    "DATASET",
    "METADATA",
    "METADATA_FILES",
    "PARTITIONS",
    "PROPERTIES",
    "SKYMAP",
    "SKYMAP_ORDER",
    "common_metadata",
    "dataset_metadata",
    "describe",
    "partition_info",
    "pixel_of",
    "properties",
    "read_partition_info",
    "read_properties",
    "read_skymap",
    "skymap",
    "tile_path",
]

DATASET = "dataset"
PROPERTIES = "hats.properties"
PARTITIONS = "partition_info.csv"
SKYMAP = "skymap.fits"
METADATA = f"{DATASET}/_metadata"
COMMON_METADATA = f"{DATASET}/_common_metadata"
METADATA_FILES = (PROPERTIES, PARTITIONS, SKYMAP, METADATA, COMMON_METADATA)
SKYMAP_ORDER = 6
"""Pixels 0.9 degrees wide: 0.4 MB, whatever the catalog's size."""

_PATH = re.compile(rf"{DATASET}/Norder=(\d+)/Dir=(\d+)/Npix=(\d+)\.parquet")
_PARTITION_COLUMNS = ("Norder", "Npix", "num_rows")
_ROWS_COLUMN = "COUNT"


def tile_path(order: int, pixel: int) -> str:
    """Where the file of a pixel is, below the catalog's folder."""
    return f"{DATASET}/Norder={order}/Dir={pixel // 10_000 * 10_000}/Npix={pixel}.parquet"


def pixel_of(path: str) -> tuple[int, int] | None:
    """Order and pixel that a path stands for; None where it is not exactly a path of `tile_path`."""
    found = _PATH.fullmatch(path)
    if not found:
        return None
    order, pixel = int(found[1]), int(found[3])
    on_sky = order <= 29 and pixel < BASE_PIXELS << 2 * order
    return (order, pixel) if on_sky and tile_path(order, pixel) == path else None


def properties(entries: Mapping[str, object]) -> bytes:
    """The content of `hats.properties`: a line `key=value` for each entry, UTF-8."""
    lines = ["#HATS catalog"]
    for key, value in entries.items():
        text = " ".join(str(value).split()).replace("\\", "\\\\")
        lines.append(f"{key}={text}")
    return ("\n".join(lines) + "\n").encode()


def describe(release: str, tiles: Sequence[Tile], max_rows: int, kilobytes: int) -> dict[str, object]:
    """The entries of `hats.properties` that the Note asks for, and those that are known."""
    return {
        "obs_collection": release,
        "obs_title": f"Galaxy morphologies of release {release}",
        "dataproduct_type": "object",
        "hats_nrows": sum(tile.rows for tile in tiles),
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_col_healpix": "_healpix_29",
        "hats_col_healpix_order": 29,
        "hats_cols_sort": "object_id",
        "hats_cols_survey_id": "object_id",
        "hats_frame": "equatorial",
        "hats_max_rows": max_rows,
        "hats_order": max((tile.order for tile in tiles), default=0),
        "hats_npix_suffix": ".parquet",
        "hats_skymap_order": SKYMAP_ORDER,
        "moc_sky_fraction": f"{sum(0.25**tile.order for tile in tiles) / BASE_PIXELS:.8g}",
        "hats_estsize": kilobytes,
        "hats_builder": f"galaxy_batch {version('galaxy-batch')}",
        "hats_creation_date": time.strftime("%Y-%m-%dT%H:%MUTC", time.gmtime()),
        "hats_version": "v1.0",
    }


def read_properties(content: bytes) -> dict[str, str]:
    """The entries of `hats.properties`.

    Raises:
        ValueError: a line is neither an entry nor a comment, or it is not UTF-8.
    """
    entries = {}
    for line in content.decode().splitlines():
        if line.strip() and not line.startswith("#"):
            key, equals, value = line.partition("=")
            if not equals:
                raise ValueError(f"not an entry: {line[:80]}")
            entries[key.strip()] = value.strip().replace("\\\\", "\\")
    return entries


def partition_info(tiles: Iterable[Tile]) -> bytes:
    """The content of `partition_info.csv`: a line for each tile, in the order of the sky."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(_PARTITION_COLUMNS)
    lines.writerows((tile.order, tile.pixel, tile.rows) for tile in tiles)
    return text.getvalue().encode()


def read_partition_info(content: bytes) -> list[Tile]:
    """The tiles of `partition_info.csv`.

    Raises:
        ValueError: it is not such a table.
    """
    header, *lines = csv.reader(io.StringIO(content.decode())) if content else [[]]
    if tuple(header) != _PARTITION_COLUMNS:
        raise ValueError(f"its columns are {', '.join(header)}")
    tiles = []
    for line in lines:
        if len(line) != len(header):
            raise ValueError(f"not a line of it: {','.join(line)[:80]}")
        tiles.append(Tile(*(int(value) for value in line)))
    return tiles


def dataset_metadata(schema: pa.Schema, footers: Sequence[tuple[str, bytes]]) -> bytes:
    """The content of `_metadata`: all row groups of all files, each with its file's path.

    Args:
        schema: the dataset's, with its metadata.
        footers: path below the catalog's folder, and the file's own metadata, in the order of the sky.
    """
    merged = pq.read_metadata(io.BytesIO(common_metadata(schema)))
    for path, footer in footers:
        metadata = pq.read_metadata(io.BytesIO(footer))
        metadata.set_file_path(path.removeprefix(f"{DATASET}/"))
        merged.append_row_groups(metadata)
    sink = io.BytesIO()
    merged.write_metadata_file(sink)
    return sink.getvalue()


def common_metadata(schema: pa.Schema) -> bytes:
    """The content of `_common_metadata`: the schema alone, as a Parquet file without rows."""
    sink = io.BytesIO()
    pq.write_metadata(schema, sink)
    return sink.getvalue()


def skymap(rows: npt.NDArray[np.int64]) -> bytes:
    """A FITS file with the rows of each pixel, ``(12 · 4^order,)``, nested: one BINTABLE, a row a pixel."""
    order = (len(rows) // BASE_PIXELS).bit_length() // 2
    table = fits.BinTableHDU.from_columns([fits.Column(name=_ROWS_COLUMN, format="K", array=rows)])
    table.header.update(
        PIXTYPE="HEALPIX", ORDERING="NESTED", COORDSYS="CEL", NSIDE=2**order, ORDER=order, INDXSCHM="IMPLICIT",
        FIRSTPIX=0, LASTPIX=len(rows) - 1,
    )  # fmt: skip
    sink = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(sink)
    return sink.getvalue()


def read_skymap(content: bytes) -> npt.NDArray[np.int64]:
    """Rows of each pixel, from the content of `skymap.fits`.

    Raises:
        ValueError: it is not a FITS file with such a table.
    """
    try:
        with fits.open(io.BytesIO(content)) as file:
            return np.array(file[1].data[_ROWS_COLUMN], np.int64)
    except (OSError, IndexError, KeyError, TypeError) as error:
        raise ValueError(str(error)) from None
