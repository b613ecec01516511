"""Answers that were given before: a chunk takes over those whose object and cutout are the same."""

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

__all__ = ["Answers", "read_answers", "recall_answers", "reuse_counts", "write_answers"]

_READY = "answers.json"


@dataclass(frozen=True)
class Answers:
    """An earlier catalog's answers, in the order of a manifest: what `crossmatch` has made."""

    folder_uri: str
    catalog_uri: str
    """The earlier catalog, as it may be shown."""
    earlier_id: str
    """Its `content_id`."""
    vanished: int
    """Objects of the earlier catalog that the manifest does not have."""
    first_chunks: tuple[int, ...]
    """The first chunk of each file."""

    def file(self, number: int) -> str:
        """An Arrow file sorted by `_chunk`: id, chunk, image hash, probabilities, uncertainties, `_blank_fraction`."""
        return join(self.folder_uri, f"answers-{number:06d}.arrow")

    def of_chunk(self, chunk: int) -> pa.Table:
        """The answers of a chunk's objects; an `image_hash` is null where there was no usable answer."""
        return read_between(self.file(bisect.bisect_right(self.first_chunks, chunk) - 1), CHUNK, chunk, chunk)


def write_answers(answers: Answers) -> None:
    """Say that the files are complete."""
    entries = {name: value for name, value in asdict(answers).items() if name != "folder_uri"}
    write_atomically(join(answers.folder_uri, _READY), json.dumps(entries).encode())


def read_answers(folder_uri: str) -> Answers | None:
    """The answers in a folder; None where there are none, or not all."""
    try:
        found = json.loads(read_bytes(join(folder_uri, _READY)))
    except FileNotFoundError:
        return None
    return Answers(**{**found, "folder_uri": folder_uri, "first_chunks": tuple(found["first_chunks"])})


def recall_answers(rows: pa.Table, answers: Answers | None) -> pa.Table:
    """Give rows the answer of an earlier catalog, where it has the same object with the same cutout, to the byte.

    Args:
        rows: a chunk with its cutouts.
        answers: of the earlier catalog; None where there is none, and nothing happens.

    Reads `object_id`, `_chunk`, `image_hash`.
    Adds `p_<class>`, `unfamiliarity`, `instability`, `_blank_fraction`, null where there is no such answer; `_origin`.
    Changes `_image_bytes` to null where there is one: nobody needs to decode it.
    """
    if answers is None:
        return rows
    earlier = answers.of_chunk(rows[CHUNK][0].as_py())
    place = pc.index_in(rows["object_id"], earlier["object_id"])
    found = earlier.take(place)  # nulls where the object is new
    same = pc.fill_null(pc.equal(found["image_hash"], rows["image_hash"]), False)
    origin = pc.if_else(pc.is_null(place), str(Origin.NEW), str(Origin.RECOMPUTED))
    rows = rows.append_column(ORIGIN, pc.if_else(same, str(Origin.REUSED), origin))
    for name in found.column_names:
        if name not in ("object_id", CHUNK, "image_hash"):
            rows = rows.append_column(name, pc.if_else(same, found[name], None))
    cutouts = pc.if_else(same, None, rows[IMAGE_BYTES])
    return rows.set_column(rows.column_names.index(IMAGE_BYTES), IMAGE_BYTES, cutouts)


def reuse_counts(rows: int, origins: Mapping[str, int], answers: Answers | None) -> dict[str, Any] | None:
    """What came of an earlier catalog; None where none was looked into.

    Args:
        rows: of the manifest.
        origins: rows by `Origin`, as the parts have them.
        answers: of the earlier catalog.

    Returns:
        `catalog_uri` of the earlier catalog; `reused`, `recomputed`, `new`; `vanished`, objects that only the earlier
        catalog has; `not_compared`, rows of a run that was stopped and did not know of it.
    """
    if answers is None and not origins:
        return None
    counts = {str(origin): origins.get(origin, 0) for origin in Origin}
    return {
        "catalog_uri": answers and answers.catalog_uri,
        **counts,
        "vanished": answers and answers.vanished,
        "not_compared": rows - sum(counts.values()),
    }
