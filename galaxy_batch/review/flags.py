"""Review flags: the reasons for a person to look at a row, each computed from columns of a batch.

`ReviewFlag` is the only list of them: flagging, verification, reuse, the pages and the column descriptions read it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag
from typing import Annotated, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.config import ReviewConfig
from galaxy_batch.settings import Range

__all__ = [
    "PIXEL_FLAGS",
    "ReviewFlag",
    "ReviewLimits",
    "audit_sample",
    "flag_for_review",
    "flag_names",
    "flag_repeated_images",
    "pixel_flags",
    "repeated_hashes",
]

Mask = npt.NDArray[np.bool_]

PIXEL_FLAGS = "_pixel_flags"
"""int32: the flags measured on pixels of a row that is reused from a previous catalog; null where it is computed."""


@dataclass(frozen=True)
class ReviewLimits(ReviewConfig):
    """The settings of `[review]` for one catalog, where those that a config leaves to the checkpoint are decided.

    No row is UNFAMILIAR or UNSTABLE where its limit is None.
    """

    has_positions: bool = True
    """Whether the survey's manifest has columns of positions."""
    max_empty_fraction: Annotated[float, Range(0, 1)] | None = None
    """INCOMPLETE above this `empty_fraction`: `manifest.tiles.max_empty_fraction`. None without tiles."""


@dataclass(frozen=True)
class Condition:
    """When a row has a flag."""

    column: str
    settings: tuple[str, ...]
    """Fields of `ReviewLimits` that decide with the column."""
    test: Callable[[pa.ChunkedArray, ReviewLimits], pa.ChunkedArray | Mask] | None
    """The column and the limits to ``(N,)`` booleans, null meaning false; None where all rows of the release decide."""
    on_pixels: bool = False
    """Whether the column is measured on the decoded cutout, and dropped once the flag is set."""


def _above(column: str, limit: str, on_pixels: bool = False) -> Condition:
    def test(values: pa.ChunkedArray, limits: ReviewLimits) -> pa.ChunkedArray:
        return pc.greater(values.cast(pa.float64()), pa.scalar(getattr(limits, limit), pa.float64()))

    return Condition(column, (limit,), test, on_pixels)


def _below(column: str, limit: str) -> Condition:
    def test(values: pa.ChunkedArray, limits: ReviewLimits) -> pa.ChunkedArray:
        return pc.less(values.cast(pa.float64()), pa.scalar(getattr(limits, limit), pa.float64()))

    return Condition(column, (limit,), test)


def audit_sample(ids: pa.ChunkedArray, config: ReviewConfig) -> Mask:
    """Which objects are drawn for the audit, by a seeded hash of the id, so that the order of rows does not matter."""
    hashes = pd.util.hash_array(
        ids.cast(pa.string()).to_numpy().astype(object), hash_key=f"audit {config.audit_seed:010d}"
    )
    limit = config.audit_fraction * 2.0**64
    return np.asarray(hashes.astype(np.float64) < limit, np.bool_)


class _Row(NamedTuple):
    bit: int
    meaning: str
    condition: Condition
    about_cutout: bool = True


class ReviewFlag(IntFlag):
    """The bits of `review_flags`. To add a flag, add a row here; bits and names are never changed."""

    meaning: str
    """One sentence for people, without a full stop."""
    condition: Condition
    about_cutout: bool
    """Whether it says that the cutout may not be a usable image of a galaxy."""

    def __new__(cls, bit: int, meaning: str, condition: Condition, about_cutout: bool) -> Self:
        """A member, from the fields of its row."""
        flag = int.__new__(cls, bit)
        flag._value_ = bit
        flag.meaning, flag.condition, flag.about_cutout = meaning, condition, about_cutout
        return flag

    LOW_CONFIDENCE = _Row(
        1, "confidence below the review threshold", _below("confidence", "min_confidence"), about_cutout=False
    )
    UNREADABLE = _Row(
        2,
        "no class, because there was no image: see status",
        Condition("status", (), lambda values, _: pc.not_equal(values, "ok")),
    )
    BLANK = _Row(
        4,
        "a nearly empty frame: black, constant, or an error message on black",
        _above("_blank_fraction", "max_blank_fraction", on_pixels=True),
    )
    UNFAMILIAR = _Row(
        8, "unlike the galaxies that the model was trained on", _above("unfamiliarity", "max_unfamiliarity")
    )
    UNSTABLE = _Row(
        16,
        "the prediction changes under flips and quarter turns of the cutout",
        _above("instability", "max_instability"),
    )
    REPEATED_IMAGE = _Row(
        32, "the same bytes for several objects: a placeholder", Condition("image_hash", ("min_repeats",), None)
    )
    NO_POSITION = _Row(
        64,
        "no usable ra, dec, in a survey that has positions",
        Condition("ra", (), lambda values, limits: pc.and_(values.is_null(), limits.has_positions)),
        about_cutout=False,
    )
    AUDIT = _Row(
        128,
        "drawn at random, to measure the accuracy without bias",
        Condition("object_id", ("audit_fraction", "audit_seed"), audit_sample),
        about_cutout=False,
    )
    INCOMPLETE = _Row(
        256,
        "part of the cutout has no data: beyond the edge of its tile, or masked there",
        _above("empty_fraction", "max_empty_fraction"),
    )

    def holds(self, rows: pa.Table, limits: ReviewLimits) -> Mask:
        """Which rows have the flag, ``(N,)``; none without its column. Only for a flag whose condition has a test."""
        assert self.condition.test is not None
        if self.condition.column not in rows.column_names:
            return np.zeros(len(rows), np.bool_)
        mask = self.condition.test(rows[self.condition.column], limits)
        return mask if isinstance(mask, np.ndarray) else np.asarray(pc.fill_null(mask, False).to_numpy(), np.bool_)


def flag_names(bits: int) -> list[str]:
    """The names of the bits that are set in `review_flags`, the lowest first."""
    return [str(flag.name) for flag in ReviewFlag if bits & flag]


def pixel_flags() -> list[ReviewFlag]:
    """The flags measured on pixels."""
    return [flag for flag in ReviewFlag if flag.condition.on_pixels]


def flag_for_review(rows: pa.Table, limits: ReviewLimits) -> pa.Table:
    """Set every flag that a row shows by itself; REPEATED_IMAGE needs all rows, and is set at publication.

    Args:
        rows: classified rows.
        limits: what the columns are compared with.

    Reads the columns of the conditions: `confidence`, `unfamiliarity`, `instability`, `status`, `ra`, `object_id`,
    `_blank_fraction`, and where it exists `empty_fraction`; and `_pixel_flags` of reused rows.
    Adds `review_flags`, `needs_review`. Drops `_blank_fraction`, `_pixel_flags`.
    """
    flags = np.zeros(len(rows), np.int32)
    if PIXEL_FLAGS in rows.column_names:
        flags |= rows[PIXEL_FLAGS].fill_null(0).to_numpy()
    for flag in ReviewFlag:
        if flag.condition.test is not None:
            flags |= np.where(flag.holds(rows, limits), np.int32(flag), np.int32(0))
    measured = {PIXEL_FLAGS, *(flag.condition.column for flag in pixel_flags())}
    return _with_flags(rows.drop_columns([name for name in rows.column_names if name in measured]), flags)


def repeated_hashes(
    hashes: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], config: ReviewConfig
) -> npt.NDArray[np.int64]:
    """The image hashes of at least `min_repeats` rows, sorted.

    Args:
        hashes: image hashes, ``(N,)``; one may occur several times.
        rows: number of rows with each hash, ``(N,)``; those of equal hashes add up.
        config: the limit.
    """
    values, places = np.unique(hashes, return_inverse=True)
    counts = np.zeros(len(values), np.int64)
    np.add.at(counts, places, rows)
    return values[counts >= config.min_repeats]


def flag_repeated_images(rows: pa.Table, repeated: npt.NDArray[np.int64]) -> pa.Table:
    """Set REPEATED_IMAGE where the row's `image_hash` is one of `repeated`.

    Reads `image_hash`, `review_flags`. Changes `review_flags`, `needs_review`.
    """
    is_repeated = pc.is_in(rows["image_hash"], value_set=pa.array(repeated, pa.int64()), skip_nulls=True)
    flags = rows["review_flags"].to_numpy() | np.where(
        is_repeated.to_numpy(), np.int32(ReviewFlag.REPEATED_IMAGE), np.int32(0)
    )
    return _with_flags(rows, flags.astype(np.int32))


def _with_flags(rows: pa.Table, flags: npt.NDArray[np.int32]) -> pa.Table:
    for name, values in (("review_flags", pa.array(flags)), ("needs_review", pa.array(flags != 0))):
        present = name in rows.column_names
        rows = (
            rows.set_column(rows.column_names.index(name), name, values)
            if present
            else rows.append_column(name, values)
        )
    return rows
