"""The files that make a folder of Parquet files a HATS catalog (IVOA Note HATS 1.0, 2025), as LSDB and hats read it.

::

    hats.properties                                title, columns, partitioning, provenance
    partition_info.csv                             the pixels that have a file, and their number of rows
    skymap.fits                                    number of rows in each pixel of order 6
    dataset/_common_metadata                       the schema, with the VOTable header
    dataset/_metadata                              the footers of all files, so that readers can skip files; optional
    dataset/Norder=<k>/Dir=<d>/Npix=<p>.parquet    the rows of pixel p of order k, d = 10000 ⌊p / 10000⌋

Optional files of the Note that are not written: the thumbnail, which a query with LIMIT replaces; `properties`, the old
name of `hats.properties`; and the downsampled skymaps, which are sums of the one here. `collection` has those that are
beside the catalog: the margin cache and the index.

Written with pyarrow and astropy, because the `hats` library requires Dask, numba and 700 MB.
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
    "LARGEST_METADATA",
    "METADATA",
    "METADATA_FILES",
    "PARTITIONS",
    "PROPERTIES",
    "SKYMAP",
    "SKYMAP_ORDER",
    "common_metadata",
    "dataset_metadata",
    "describe",
    "optional_metadata",
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
LARGEST_METADATA = 100 << 20
"""Bytes of footers above which `_metadata` is not written: readers would load all of it to find a few files. They have
30 KB per million rows."""
SKYMAP_ORDER = 6
"""Pixels 0.9 degrees wide; the file has 0.4 MB for catalogs of any size."""

_PATH = re.compile(rf"{DATASET}/Norder=(\d+)/Dir=(\d+)/Npix=(\d+)\.parquet")
_PARTITION_COLUMNS = ("Norder", "Npix", "num_rows")
_ROWS_COLUMN = "COUNT"


def tile_path(order: int, pixel: int) -> str:
    """The path of the file of a pixel, below the catalog's folder."""
    return f"{DATASET}/Norder={order}/Dir={pixel // 10_000 * 10_000}/Npix={pixel}.parquet"


def pixel_of(path: str) -> tuple[int, int] | None:
    """Order and pixel of a path that `tile_path` has made; None for any other path."""
    match = _PATH.fullmatch(path)
    if not match:
        return None
    order, pixel = int(match[1]), int(match[3])
    on_sky = order <= 29 and pixel < BASE_PIXELS << 2 * order
    return (order, pixel) if on_sky and tile_path(order, pixel) == path else None


def properties(entries: Mapping[str, object], title: str = "HATS catalog") -> bytes:
    """The content of `hats.properties`: a line `key=value` for each entry, UTF-8; the title is a comment."""
    lines = [f"#{title}"]
    for key, value in entries.items():
        text = " ".join(str(value).split()).replace("\\", "\\\\")
        lines.append(f"{key}={text}")
    return ("\n".join(lines) + "\n").encode()


def describe(release: str, tiles: Sequence[Tile], max_rows: int, size_bytes: int) -> dict[str, object]:
    """The required entries of `hats.properties`, and the optional ones that are known.

    Args:
        release: name of the release.
        tiles: pixels that have a file.
        max_rows: limit of the rows of a file.
        size_bytes: of all files of rows.
    """
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
        "hats_estsize": -(-size_bytes // 1024),  # kB
        "hats_builder": f"galaxy_batch {version('galaxy-batch')}",
        "hats_creation_date": time.strftime("%Y-%m-%dT%H:%MUTC", time.gmtime()),
        "hats_version": "v1.0",
    }


def read_properties(content: bytes) -> dict[str, str]:
    """The entries of `hats.properties`.

    Raises:
        ValueError: a line is neither an entry nor a comment, or the content is not UTF-8.
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
    """The content of `partition_info.csv`: one line per tile, in the order of the tiles."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(_PARTITION_COLUMNS)
    lines.writerows((tile.order, tile.pixel, tile.rows) for tile in tiles)
    return text.getvalue().encode()


def read_partition_info(content: bytes) -> list[Tile]:
    """The tiles of `partition_info.csv`.

    Raises:
        ValueError: the content is not such a table.
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
    """The content of `_metadata`: the row groups of all files, each with the path of its file.

    Args:
        schema: of the dataset, with the VOTable header.
        footers: path below the catalog's folder and Parquet metadata of each file, in the order of their pixels.
    """
    merged = pq.read_metadata(io.BytesIO(common_metadata(schema)))
    for path, footer in footers:
        metadata = pq.read_metadata(io.BytesIO(footer))
        metadata.set_file_path(path.removeprefix(f"{DATASET}/"))
        merged.append_row_groups(metadata)
    sink = io.BytesIO()
    merged.write_metadata_file(sink)
    return sink.getvalue()


def optional_metadata(schema: pa.Schema, footers: Sequence[tuple[str, bytes]]) -> dict[str, bytes]:
    """The content of `_metadata` by its path; nothing where it would be too large. Args as `dataset_metadata`."""
    size = sum(len(footer) for _, footer in footers)
    return {METADATA: dataset_metadata(schema, footers)} if size <= LARGEST_METADATA else {}


def common_metadata(schema: pa.Schema) -> bytes:
    """The content of `_common_metadata`: the schema, as a Parquet file without rows."""
    sink = io.BytesIO()
    pq.write_metadata(schema, sink)
    return sink.getvalue()


def skymap(rows: npt.NDArray[np.int64]) -> bytes:
    """A FITS file with the number of rows in each nested pixel, ``(12 · 4^order,)``: a BINTABLE, one row per pixel."""
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
    """The number of rows in each pixel, from the content of `skymap.fits`.

    Raises:
        ValueError: the content is not a FITS file with such a table.
    """
    try:
        with fits.open(io.BytesIO(content)) as file:
            return np.array(file[1].data[_ROWS_COLUMN], np.int64)
    except (OSError, IndexError, KeyError, TypeError) as error:
        raise ValueError(str(error)) from None
