"""One file of a catalog, looked at by itself: its schema, its header, its rows, their place and their order."""

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from galaxy_batch.catalog import hats
from galaxy_batch.catalog.verify_rows import CatalogContract, broken_rules
from galaxy_batch.catalog.votable import CONTENT_KEY, VERSION_KEY, fields_of, votable_header
from galaxy_batch.ids import id_hashes
from galaxy_batch.rows import ReviewFlag

__all__ = ["UNREADABLE", "Inspection", "header_problems", "inspect", "schema_problem"]

UNREADABLE = (pa.ArrowException, OSError, ValueError)
"""What pyarrow raises for bytes that are no whole Parquet file."""
_UNBOUNDED_TEXT = ("unicodeChar", "char")


@dataclass
class Inspection:
    """What a file has, and what is wrong with it."""

    problems: list[str] = field(default_factory=list)
    rows: int = 0
    failed: int = 0
    flagged: int = 0
    ids: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    """Hashes of the object ids, by row group."""
    images: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]] = field(default_factory=list)
    """Image hashes that there are, and whether their rows have REPEATED_IMAGE, by row group."""
    counts: dict[str, Counter[str]] = field(default_factory=lambda: {n: Counter() for n in ("status", "class", "flag")})
    sky: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Pixel of order 6 of each row with a position."""
    footer: pq.FileMetaData | None = None
    """None where the file cannot be read."""
    broken: dict[str, tuple[int, object]] = field(default_factory=dict)
    """Rules of rows: how many rows break each, and the id of the first."""

    def __post_init__(self) -> None:
        self.last: tuple[int, object] | None = None


def inspect(content: bytes, path: str, schema: Mapping[str, str], promise: CatalogContract) -> Inspection:
    """Look at a file of rows, a row group at a time.

    Args:
        content: the file.
        path: where it lies below the catalog's folder, which says what pixel its rows must be in.
        schema: name and type of each column, in order.
        promise: what holds for each row.
    """
    found = Inspection()
    try:
        parquet = pq.ParquetFile(io.BytesIO(content))
        problem = schema_problem(parquet.schema_arrow, schema)
        if problem:
            found.problems.append(problem)
            return found
        found.footer = parquet.metadata
        found.problems += header_problems(parquet.schema_arrow)
        for group in range(parquet.num_row_groups):
            _take_in(found, parquet.read_row_group(group), path, promise)
    except UNREADABLE as error:
        found.problems.append(f"cannot be read as Parquet: {str(error).splitlines()[0]}")
        return found
    for rule, (rows, first) in found.broken.items():
        found.problems.append(f"{rows} rows with {rule} (the first: object_id {first})")
    return found


def schema_problem(found: pa.Schema, wanted: Mapping[str, str]) -> str | None:
    """How a schema differs from the one that is wanted, in names, order or types; None where it does not."""
    columns = {column.name: str(column.type) for column in found}
    if list(columns.items()) == list(wanted.items()) and len(columns) == len(found):
        return None
    differing = [name for name in {**columns, **wanted} if columns.get(name) != wanted.get(name)]
    what = f"in {', '.join(differing[:5])}" if differing else "in the order of its columns"
    return f"the schema differs from manifest.json's {what}"


def header_problems(schema: pa.Schema) -> Iterator[str]:
    """Where the VOTable header is missing, or differs from the columns: their names, types, units, UCDs, meanings."""
    metadata = schema.metadata or {}
    if metadata.get(VERSION_KEY) != b"1.0" or CONTENT_KEY not in metadata:
        yield "has no VOTable header"
        return
    try:
        found = fields_of(metadata[CONTENT_KEY])
    except ValueError as error:
        yield f"its VOTable header cannot be read: {error}"
        return
    said = {column["name"]: _bounds_aside(column) for column in found}
    wanted = {column["name"]: _bounds_aside(column) for column in fields_of(votable_header(schema, "", {}, {}))}
    differing = [name for name in {**wanted, **said} if said.get(name) != wanted.get(name)]
    if differing:
        yield f"its VOTable header does not describe the columns as they are: {', '.join(differing[:5])}"
    elif list(said) != list(wanted) or len(found) != len(said):
        yield "its VOTable header has the columns in another order"


def _bounds_aside(column: Mapping[str, str]) -> dict[str, str]:
    text = column.get("datatype") in _UNBOUNDED_TEXT
    return {key: value for key, value in column.items() if not (text and key == "arraysize")}


def _take_in(found: Inspection, rows: pa.Table, path: str, promise: CatalogContract) -> None:
    if not len(rows):
        return
    broken = broken_rules(rows, promise)
    if not any(rule.startswith("a null") for rule in broken):
        broken |= _misplaced(found, rows, path)
        _count(found, rows)
    for rule, where in broken.items():
        times, first = found.broken.get(rule, (0, rows["object_id"][int(where.argmax())]))
        found.broken[rule] = (times + int(where.sum()), first)
    found.rows += len(rows)


def _misplaced(found: Inspection, rows: pa.Table, path: str) -> dict[str, npt.NDArray[np.bool_]]:
    """Rows in the wrong file, or out of order; the order goes on from the row group before."""
    pixels = rows["_healpix_29"].fill_null(-1).to_numpy()
    tile = hats.pixel_of(path)
    elsewhere = pixels >= 0 if tile is None else (pixels < 0) | (pixels >> 2 * (29 - tile[0]) != tile[1])
    ids = rows["object_id"].combine_chunks()
    before = found.last or (int(pixels[0]), None)
    earlier_ids = pa.concat_arrays([pa.array([before[1]], ids.type), ids[:-1]])
    earlier_pixels = np.concatenate([[before[0]], pixels[:-1]])
    greater = pc.fill_null(pc.less(earlier_ids, ids), True).to_numpy(zero_copy_only=False)
    unsorted = (pixels < earlier_pixels) | ((pixels == earlier_pixels) & ~greater)
    found.last = (int(pixels[-1]), ids[-1].as_py())
    misplaced = {
        "a place outside the file's pixel": np.asarray(elsewhere),
        "a place out of the order of _healpix_29, object_id": unsorted,
    }
    return {rule: where for rule, where in misplaced.items() if where.any()}


def _count(found: Inspection, rows: pa.Table) -> None:
    flags = rows["review_flags"].to_numpy()
    found.failed += rows["predicted_class"].null_count
    found.flagged += int((flags != 0).sum())
    for name, column in (("status", rows["status"]), ("class", rows["predicted_class"].drop_null())):
        found.counts[name].update({e["values"]: e["counts"] for e in pc.value_counts(column).to_pylist()})
    found.counts["flag"].update({str(flag.name): int(((flags & flag) != 0).sum()) for flag in ReviewFlag})
    found.ids.append(id_hashes(rows["object_id"]))
    hashed = rows["image_hash"].is_valid().to_numpy()
    hashes = rows["image_hash"].drop_null().to_numpy().astype(np.int64).view(np.uint64)
    found.images.append((hashes, (flags[hashed] & ReviewFlag.REPEATED_IMAGE) != 0))
    pixels = rows["_healpix_29"].drop_null().to_numpy().astype(np.int64)
    found.sky = np.concatenate([found.sky, pixels >> 2 * (29 - hats.SKYMAP_ORDER)])
