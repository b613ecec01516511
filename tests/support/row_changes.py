"""Changes of catalog rows, for comparisons."""

import numpy as np
import pyarrow as pa

from galaxy_batch.rows import ReviewFlag
from tests.support.skies import with_columns


def with_magnitudes(rows: pa.Table, seed: int = 0) -> pa.Table:
    magnitude = np.random.default_rng(seed).normal(18, 1, len(rows)).astype(np.float32)
    return rows.append_column("r", pa.array(magnitude)).append_column("band", pa.array(["r"] * len(rows)))


def flipped(rows: pa.Table, which: np.ndarray) -> pa.Table:
    """The rows with the two probabilities of the selected ones exchanged."""
    smooth, featured = rows["p_smooth"].to_numpy(), rows["p_featured"].to_numpy()
    label = rows["predicted_class"].to_pandas()
    other = label.map({"smooth": "featured", "featured": "smooth"})
    return with_columns(
        rows,
        p_smooth=pa.array(np.where(which, featured, smooth), from_pandas=True),
        p_featured=pa.array(np.where(which, smooth, featured), from_pandas=True),
        predicted_class=pa.array(np.where(which, other, label), from_pandas=True),
    )


def failing(rows: pa.Table, which: np.ndarray) -> pa.Table:
    """The rows with the selected ones failed."""
    columns = {
        name: pa.array(rows[name].to_numpy(), mask=which | rows[name].is_null().to_numpy())
        for name in ("predicted_class", "confidence", "p_smooth", "p_featured", "image_hash")
    }
    status = np.where(which, "missing", rows["status"].to_numpy())
    flags = np.where(which, ReviewFlag.UNREADABLE, rows["review_flags"].to_numpy())
    return with_columns(rows, **columns, status=status, review_flags=flags, needs_review=flags != 0)
