"""Counts of rows by status, class and flag, and the checksum of their ids: of a file, of all parts, of a catalog."""

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.ids import id_hashes, ids_checksum
from galaxy_batch.rows import ReviewFlag

__all__ = ["CatalogCounts", "count_rows", "total_counts"]


@dataclass(frozen=True, kw_only=True)
class CatalogCounts:
    """How many rows there are, and of which kinds; named as in `manifest.json`."""

    rows: int
    failed: int
    """Rows without a class."""
    flagged: int
    """Rows with a bit of `review_flags`."""
    without_position: int
    status_counts: dict[str, int]
    """Rows by `status`; no entry where there are none, and so in `class_counts`."""
    class_counts: dict[str, int]
    flag_counts: dict[str, int]
    """Rows by the name of each flag."""
    ids_checksum: str
    """16 hex digits, because few readers of JSON keep 64 bits of a number."""


def count_rows(rows: pa.Table) -> CatalogCounts:
    """Count rows.

    Reads `object_id`, `status`, `predicted_class`, `review_flags`, `_healpix_29`.
    """
    flags = rows["review_flags"].to_numpy()
    return CatalogCounts(
        rows=len(rows),
        failed=rows["predicted_class"].null_count,
        flagged=int((flags != 0).sum()),
        without_position=rows["_healpix_29"].null_count,
        status_counts=_value_counts(rows["status"]),
        class_counts=_value_counts(rows["predicted_class"].drop_null()),
        flag_counts={str(flag.name): int(((flags & flag) != 0).sum()) for flag in ReviewFlag},
        ids_checksum=f"{ids_checksum(id_hashes(rows['object_id'])):016x}",
    )


def total_counts(counts: Iterable[CatalogCounts]) -> CatalogCounts:
    """The sum of several counts; all zero where there are none."""
    nothing = CatalogCounts(
        rows=0, failed=0, flagged=0, without_position=0, status_counts={}, class_counts={},
        flag_counts={str(flag.name): 0 for flag in ReviewFlag}, ids_checksum="0" * 16,
    )  # fmt: skip
    return functools.reduce(_added, counts, nothing)


def _added(one: CatalogCounts, other: CatalogCounts) -> CatalogCounts:
    return CatalogCounts(
        rows=one.rows + other.rows,
        failed=one.failed + other.failed,
        flagged=one.flagged + other.flagged,
        without_position=one.without_position + other.without_position,
        status_counts=_sum(one.status_counts, other.status_counts),
        class_counts=_sum(one.class_counts, other.class_counts),
        flag_counts={name: one.flag_counts[name] + other.flag_counts[name] for name in one.flag_counts},
        ids_checksum=f"{(int(one.ids_checksum, 16) + int(other.ids_checksum, 16)) % 2**64:016x}",
    )


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted((Counter(one) + Counter(other)).items()))


def _value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    entries = pc.value_counts(column.cast(pa.string())).to_pylist()
    return dict(sorted((entry["values"], entry["counts"]) for entry in entries))
