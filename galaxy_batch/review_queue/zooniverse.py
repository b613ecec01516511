"""A Zooniverse subject set of a queue: `zooniverse/manifest.csv` and the pictures beside it.

The folder can be dropped on the Project Builder as it is, or uploaded by `zooniverse_upload`. Volunteers see the
picture and the id; fields that begin with `#` are hidden from them.
"""

import csv
import io
import logging
from collections.abc import Sequence
from typing import Any

from galaxy_batch.review_queue.bundle import picture_within
from galaxy_batch.review_queue.queue import ReviewQueue
from galaxy_batch.storage.files import join, list_names, read_bytes, without_secrets, write_atomically
from galaxy_batch.storage.threads import map_in_threads

__all__ = ["IMAGE_FIELD", "MANIFEST", "subject_fields", "write_subject_set"]

logger = logging.getLogger(__name__)

MANIFEST = "manifest.csv"
IMAGE_FIELD = "image"
"""Field with the name of the picture."""

_FOLDER = "zooniverse"
_MAX_BYTES = 1_000_000  # of a picture: Zooniverse takes 1 MB
_HIDDEN = ("predicted_class", "confidence", "reason", "inclusion_probability", "position")


def write_subject_set(queue: ReviewQueue) -> dict[str, Any]:
    """Write the manifest and the pictures; pictures that are there already are kept.

    Returns:
        `manifest_uri`, `subjects`, and `left_out`: galaxies without a picture.
    """
    folder = join(queue.uri, _FOLDER)
    rows = [row for row in queue.rows.to_pylist() if row["picture"] is not None]
    there = set(list_names(folder))

    def copy(row: dict[str, Any]) -> dict[str, str]:
        fields = subject_fields(queue, row)
        if fields[IMAGE_FIELD] not in there:
            content = picture_within(read_bytes(join(queue.uri, row["picture"])), _MAX_BYTES)
            write_atomically(join(folder, fields[IMAGE_FIELD]), content)
        return fields

    subjects = map_in_threads(copy, rows)
    write_atomically(join(folder, MANIFEST), _csv(subjects))
    logger.info("Zooniverse subject set, %d subjects: %s", len(subjects), without_secrets(folder))
    return {
        "manifest_uri": without_secrets(join(folder, MANIFEST)),
        "subjects": len(subjects),
        "left_out": len(queue.rows) - len(subjects),
    }


def subject_fields(queue: ReviewQueue, row: dict[str, Any]) -> dict[str, str]:
    """The fields of one subject, as they are in the manifest and in the metadata of an uploaded subject.

    Args:
        queue: that has the row.
        row: with a picture.
    """
    catalog = queue.record["catalog"]
    hidden = {name: row[name] for name in _HIDDEN}
    hidden |= {"queue": queue.name, "release": catalog["release"], "model_id": catalog["model_id"]}
    fields = {"object_id": row["object_id"], IMAGE_FIELD: f"{row['position']:05d}.{row['picture'].rpartition('.')[2]}"}
    return {name: str(value) for name, value in (fields | {f"#{name}": hidden[name] for name in hidden}).items()}


def _csv(subjects: Sequence[dict[str, str]]) -> bytes:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, list(subjects[0]) if subjects else ["object_id", IMAGE_FIELD], lineterminator="\n")
    writer.writeheader()
    writer.writerows(subjects)
    return sink.getvalue().encode()
