"""One file of a catalog, checked by itself: its schema, its header, its rows, their position and their order."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from galaxy_batch.catalog import hats
from galaxy_batch.catalog.counts import CatalogCounts, count_rows, total_counts
from galaxy_batch.catalog.verify_rows import CatalogContract, broken_rules
from galaxy_batch.catalog.votable import CONTENT_KEY, VERSION_KEY, fields_of, votable_header
from galaxy_batch.ids import id_hashes
from galaxy_batch.rows import ReviewFlag

__all__ = ["UNREADABLE", "FileReport", "header_problems", "schema_problem", "verify_file"]

UNREADABLE = (pa.ArrowException, OSError, ValueError)
"""What pyarrow raises for bytes that are not a whole Parquet file."""
_UNBOUNDED_TEXT = ("unicodeChar", "char")


@dataclass
class FileReport:
    """What a file contains, and what is wrong with it."""

    problems: list[str] = field(default_factory=list)
    counts: CatalogCounts = field(default_factory=lambda: total_counts([]))
    """Of the row groups whose rows can be counted."""
    rows: int = 0
    """Of all row groups."""
    ids: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    """Hashes of the object ids, by row group."""
    images: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]] = field(default_factory=list)
    """Image hashes that are not null, and whether their rows have REPEATED_IMAGE, by row group."""
    sky: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Pixel of order 6 of each row with a position."""
    footer: pq.FileMetaData | None = None
    """None where the file cannot be read."""
    broken: dict[str, tuple[int, object]] = field(default_factory=dict)
    """How many rows break each rule, and the id of the first."""
    last: tuple[int, object] | None = None
    """Pixel and id of the last row so far: the order is checked across row groups."""


def verify_file(content: bytes, path: str, schema: Mapping[str, str], contract: CatalogContract) -> FileReport:
    """Check a file of rows, one row group at a time.

    Args:
        content: the file.
        path: below the catalog's folder; it says which HEALPix pixel the rows must be in.
        schema: name and type of each column, in order.
        contract: what must hold for each row.
    """
    report = FileReport()
    try:
        parquet = pq.ParquetFile(io.BytesIO(content))
        problem = schema_problem(parquet.schema_arrow, schema)
        if problem:
            report.problems.append(problem)
            return report
        report.footer = parquet.metadata
        report.problems += header_problems(parquet.schema_arrow)
        for group in range(parquet.num_row_groups):
            _add_row_group(report, parquet.read_row_group(group), path, contract)
    except UNREADABLE as error:
        report.problems.append(f"cannot be read as Parquet: {str(error).splitlines()[0]}")
        return report
    for rule, (rows, first) in report.broken.items():
        report.problems.append(f"{rows} rows with {rule} (the first: object_id {first})")
    return report


def schema_problem(schema: pa.Schema, expected: Mapping[str, str]) -> str | None:
    """How a schema differs from the expected one in names, order or types; None where it does not."""
    columns = {column.name: str(column.type) for column in schema}
    if list(columns.items()) == list(expected.items()) and len(columns) == len(schema):
        return None
    differing = [name for name in {**columns, **expected} if columns.get(name) != expected.get(name)]
    what = f"in {', '.join(differing[:5])}" if differing else "in the order of its columns"
    return f"the schema differs from manifest.json's {what}"


def header_problems(schema: pa.Schema) -> Iterator[str]:
    """Where the VOTable header is missing, or differs from the columns in name, type, unit, UCD or description."""
    metadata = schema.metadata or {}
    if metadata.get(VERSION_KEY) != b"1.0" or CONTENT_KEY not in metadata:
        yield "has no VOTable header"
        return
    try:
        fields = fields_of(metadata[CONTENT_KEY])
    except ValueError as error:
        yield f"its VOTable header cannot be read: {error}"
        return
    described = {column["name"]: _without_bounds(column) for column in fields}
    expected = {column["name"]: _without_bounds(column) for column in fields_of(votable_header(schema, "", {}, {}))}
    differing = [name for name in {**expected, **described} if described.get(name) != expected.get(name)]
    if differing:
        yield f"its VOTable header does not describe the columns as they are: {', '.join(differing[:5])}"
    elif list(described) != list(expected) or len(fields) != len(described):
        yield "its VOTable header has the columns in another order"


def _without_bounds(column: Mapping[str, str]) -> dict[str, str]:
    """A FIELD without the maximum length of its texts, which each file has for its own."""
    text = column.get("datatype") in _UNBOUNDED_TEXT
    return {key: value for key, value in column.items() if not (text and key == "arraysize")}


def _add_row_group(report: FileReport, rows: pa.Table, path: str, contract: CatalogContract) -> None:
    if not len(rows):
        return
    broken = broken_rules(rows, contract)
    if not any(rule.startswith("a null") for rule in broken):
        broken |= _misplaced(report, rows, path)
        _count(report, rows)
    for rule, where in broken.items():
        times, first = report.broken.get(rule, (0, rows["object_id"][int(where.argmax())]))
        report.broken[rule] = (times + int(where.sum()), first)
    report.rows += len(rows)


def _misplaced(report: FileReport, rows: pa.Table, path: str) -> dict[str, npt.NDArray[np.bool_]]:
    """Rows in the wrong file, or out of order."""
    pixels = rows["_healpix_29"].fill_null(-1).to_numpy()
    tile = hats.pixel_of(path)
    outside = pixels >= 0 if tile is None else (pixels < 0) | (pixels >> 2 * (29 - tile[0]) != tile[1])
    ids = rows["object_id"].combine_chunks()
    last_pixel, last_id = report.last or (int(pixels[0]), None)
    previous_ids = pa.concat_arrays([pa.array([last_id], ids.type), ids[:-1]])
    previous_pixels = np.concatenate([[last_pixel], pixels[:-1]])
    greater = pc.fill_null(pc.less(previous_ids, ids), True).to_numpy(zero_copy_only=False)
    unsorted = (pixels < previous_pixels) | ((pixels == previous_pixels) & ~greater)
    report.last = (int(pixels[-1]), ids[-1].as_py())
    misplaced = {
        "a position outside the file's pixel": np.asarray(outside),
        "a position out of the order of _healpix_29, object_id": unsorted,
    }
    return {rule: where for rule, where in misplaced.items() if where.any()}


def _count(report: FileReport, rows: pa.Table) -> None:
    report.counts = total_counts([report.counts, count_rows(rows)])
    report.ids.append(id_hashes(rows["object_id"]))
    hashed = rows["image_hash"].is_valid().to_numpy()
    hashes = rows["image_hash"].drop_null().to_numpy().astype(np.int64).view(np.uint64)
    report.images.append((hashes, (rows["review_flags"].to_numpy()[hashed] & ReviewFlag.REPEATED_IMAGE) != 0))
    pixels = rows["_healpix_29"].drop_null().to_numpy().astype(np.int64)
    report.sky = np.concatenate([report.sky, pixels >> 2 * (29 - hats.SKYMAP_ORDER)])
