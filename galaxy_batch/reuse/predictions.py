"""Predictions of a previous catalog: each chunk reuses those of the same objects with the same cutouts."""

import bisect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.rows import CHUNK, IMAGE_BYTES, ORIGIN, Origin
from galaxy_batch.storage.files import join, read_bytes, write_atomically
from galaxy_batch.storage.sorted_runs import read_between

__all__ = ["PreviousPredictions", "read_predictions", "reuse_counts", "reuse_predictions", "write_predictions"]

_COMPLETE = "predictions.json"


@dataclass(frozen=True)
class PreviousPredictions:
    """The predictions of a previous catalog, ordered by the chunks of a manifest, as `join_previous` writes them."""

    folder_uri: str
    catalog_uri: str
    """The previous catalog, without secrets."""
    content_id: str
    """Of the previous catalog."""
    vanished: int
    """Objects of the previous catalog that the manifest does not have."""
    first_chunks: tuple[int, ...]
    """The first chunk of each file."""

    def file(self, number: int) -> str:
        """An Arrow file sorted by `_chunk`: id, chunk, image hash, all that is reused, see `reuse_predictions`."""
        return join(self.folder_uri, f"predictions-{number:06d}.arrow")

    def of_chunk(self, chunk: int) -> pa.Table:
        """The predictions for a chunk's objects; `image_hash` is null where there is none to reuse."""
        return read_between(self.file(bisect.bisect_right(self.first_chunks, chunk) - 1), CHUNK, chunk, chunk)


def write_predictions(predictions: PreviousPredictions) -> None:
    """Record that the files are complete."""
    entries = {name: value for name, value in asdict(predictions).items() if name != "folder_uri"}
    write_atomically(join(predictions.folder_uri, _COMPLETE), json.dumps(entries).encode())


def read_predictions(folder_uri: str) -> PreviousPredictions | None:
    """The predictions in a folder; None where there are none, or where they are incomplete."""
    try:
        entries = json.loads(read_bytes(join(folder_uri, _COMPLETE)))
    except FileNotFoundError:
        return None
    return PreviousPredictions(**{**entries, "folder_uri": folder_uri, "first_chunks": tuple(entries["first_chunks"])})


def reuse_predictions(rows: pa.Table, previous: PreviousPredictions | None) -> pa.Table:
    """Give rows the predictions of a previous catalog that has the same object with the same cutout, byte for byte.

    Args:
        rows: a chunk with its cutouts.
        previous: predictions of the previous catalog; None leaves the rows unchanged.

    Reads `object_id`, `_chunk`, `image_hash`.
    Adds `prediction_columns`, `_pixel_flags`, and `_embedding` where there are embeddings, null where nothing is
    reused; `_origin`.
    Changes `_image_bytes` to null where predictions are reused: there is nothing to decode.
    """
    if previous is None:
        return rows
    predictions = previous.of_chunk(rows[CHUNK][0].as_py())
    place = pc.index_in(rows["object_id"], predictions["object_id"])
    matched = predictions.take(place)  # nulls where the object is new
    same = pc.fill_null(pc.equal(matched["image_hash"], rows["image_hash"]), False)
    origin = pc.if_else(pc.is_null(place), str(Origin.NEW), str(Origin.RECOMPUTED))
    rows = rows.append_column(ORIGIN, pc.if_else(same, str(Origin.REUSED), origin))
    for name in matched.column_names:
        if name not in ("object_id", CHUNK, "image_hash"):
            rows = rows.append_column(name, pc.if_else(same, matched[name], None))
    cutouts = pc.if_else(same, None, rows[IMAGE_BYTES])
    return rows.set_column(rows.column_names.index(IMAGE_BYTES), IMAGE_BYTES, cutouts)


def reuse_counts(rows: int, origins: Mapping[str, int], previous: PreviousPredictions | None) -> dict[str, Any] | None:
    """Rows by where their predictions come from; None where no previous catalog was used.

    Args:
        rows: rows of the manifest.
        origins: rows by `Origin`, as the parts record them.
        previous: predictions of the previous catalog.

    Returns:
        `catalog_uri` of the previous catalog; `reused`, `recomputed`, `new`; `vanished`, objects that only the previous
        catalog has; `not_compared`, rows computed by an interrupted run without the previous catalog.
    """
    if previous is None and not origins:
        return None
    counts = {str(origin): origins.get(origin, 0) for origin in Origin}
    return {
        "catalog_uri": previous and previous.catalog_uri,
        **counts,
        "vanished": previous and previous.vanished,
        "not_compared": rows - sum(counts.values()),
    }
