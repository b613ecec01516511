"""Review flags: which rows a person should look at, and why. Pure functions of a batch."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.config import ReviewConfig
from galaxy_batch.rows import BLANK_FRACTION, ReviewFlag, Status

__all__ = ["audit_sample", "flag_for_review", "flag_repeated_images", "repeated_hashes"]


def flag_for_review(
    rows: pa.Table,
    config: ReviewConfig,
    min_confidence: float,
    max_unfamiliarity: float | None = None,
    max_instability: float | None = None,
) -> pa.Table:
    """Set every flag that a row shows by itself; REPEATED_IMAGE needs all rows, and comes with publication.

    Args:
        rows: classified rows.
        config: limits of the flags.
        min_confidence: LOW_CONFIDENCE under this.
        max_unfamiliarity: UNFAMILIAR above this; never without it.
        max_instability: UNSTABLE above this; never without it.

    Reads `confidence`, `unfamiliarity`, `instability`, `status`, `ra`, `object_id`, `_blank_fraction`.
    Adds `review_flags`, `needs_review`. Drops `_blank_fraction`.
    """
    raised = {
        ReviewFlag.LOW_CONFIDENCE: pc.less(rows["confidence"].cast(pa.float64()), min_confidence),
        ReviewFlag.UNREADABLE: pc.not_equal(rows["status"], str(Status.OK)),
        ReviewFlag.BLANK: pc.greater(rows[BLANK_FRACTION].cast(pa.float64()), config.max_blank_fraction),
        ReviewFlag.UNFAMILIAR: _above(rows["unfamiliarity"], max_unfamiliarity),
        ReviewFlag.UNSTABLE: _above(rows["instability"], max_instability),
        ReviewFlag.NO_POSITION: pc.is_null(rows["ra"]),
    }
    flags = np.zeros(len(rows), np.int32)
    for flag, where in raised.items():
        flags |= np.where(pc.fill_null(where, False).to_numpy(), np.int32(flag), np.int32(0))
    flags |= np.where(audit_sample(rows["object_id"], config), np.int32(ReviewFlag.AUDIT), np.int32(0))
    return _with_flags(rows.drop_columns([BLANK_FRACTION]), flags)


def audit_sample(ids: pa.ChunkedArray, config: ReviewConfig) -> npt.NDArray[np.bool_]:
    """Which objects are drawn for the audit: a hash of the id under a seed, so that order does not matter."""
    hashes = pd.util.hash_array(
        ids.cast(pa.string()).to_numpy().astype(object), hash_key=f"audit {config.audit_seed:010d}"
    )
    limit = config.audit_fraction * 2.0**64
    return np.asarray(hashes.astype(np.float64) < limit, np.bool_)


def repeated_hashes(
    hashes: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], config: ReviewConfig
) -> npt.NDArray[np.int64]:
    """The image hashes that stand in at least `min_repeats` rows, sorted.

    Args:
        hashes: image hashes, ``(N,)``; one may occur several times.
        rows: in how many rows each stands, ``(N,)``; those of equal hashes add up.
        config: the limit.
    """
    values, places = np.unique(hashes, return_inverse=True)
    counts = np.zeros(len(values), np.int64)
    np.add.at(counts, places, rows)
    return values[counts >= config.min_repeats]


def flag_repeated_images(rows: pa.Table, repeated: npt.NDArray[np.int64]) -> pa.Table:
    """Add REPEATED_IMAGE where the row's `image_hash` is one of `repeated`.

    Reads `image_hash`, `review_flags`. Changes `review_flags`, `needs_review`.
    """
    found = pc.is_in(rows["image_hash"], value_set=pa.array(repeated, pa.int64()), skip_nulls=True)
    flags = rows["review_flags"].to_numpy() | np.where(
        found.to_numpy(), np.int32(ReviewFlag.REPEATED_IMAGE), np.int32(0)
    )
    return _with_flags(rows, flags.astype(np.int32))


def _above(values: pa.ChunkedArray, limit: float | None) -> pa.ChunkedArray:
    return pc.greater(values.cast(pa.float64()), pa.scalar(limit, pa.float64()))  # null, hence False, without a limit


def _with_flags(rows: pa.Table, flags: npt.NDArray[np.int32]) -> pa.Table:
    for name, values in (("review_flags", pa.array(flags)), ("needs_review", pa.array(flags != 0))):
        present = name in rows.column_names
        rows = (
            rows.set_column(rows.column_names.index(name), name, values)
            if present
            else rows.append_column(name, values)
        )
    return rows
