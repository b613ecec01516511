"""Label Studio tasks of a queue: `label_studio/config.xml`, the labelling interface, and `label_studio/tasks.json`.

The pictures are within the tasks, as data URIs: they show without a server, a storage connection or a setting of Label
Studio. Formats: https://labelstud.io/guide/task_format and https://labelstud.io/guide/predictions.
"""

import base64
import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree

from galaxy_batch.review_queue.bundle import picture_within
from galaxy_batch.review_queue.queue import ReviewQueue
from galaxy_batch.storage.files import join, read_bytes, without_secrets, write_atomically
from galaxy_batch.storage.threads import map_in_threads

__all__ = ["write_tasks"]

logger = logging.getLogger(__name__)

_FOLDER = "label_studio"
_CHOICES, _IMAGE = "verdict", "image"  # names in the interface
_MAX_PICTURE_BYTES = 200_000
_MAX_FILE_BYTES = 100_000_000  # Label Studio refuses uploads above 250 MB
_READ_ROWS = 64  # at a time
_KEYS = "1234567890"
_JPEG = b"\xff\xd8\xff"


def write_tasks(queue: ReviewQueue) -> dict[str, Any]:
    """Write the interface and the tasks; those beyond 100 MB go to `tasks-2.json` and so on.

    Returns:
        `config_uri`, `tasks_uris`, `tasks`, and `left_out`: galaxies without a picture.
    """
    folder = join(queue.uri, _FOLDER)
    config_uri = join(folder, "config.xml")
    write_atomically(config_uri, _interface(queue.verdicts))
    uris, tasks = [], 0
    for number, lines in enumerate(_files(_tasks(queue)), start=1):
        uris.append(join(folder, "tasks.json" if number == 1 else f"tasks-{number}.json"))
        write_atomically(uris[-1], b"[\n" + b",\n".join(lines) + b"\n]\n")
        tasks += len(lines)
    logger.info("Label Studio, %d tasks: %s", tasks, without_secrets(folder))
    return {
        "config_uri": without_secrets(config_uri),
        "tasks_uris": list(map(without_secrets, uris)),
        "tasks": tasks,
        "left_out": len(queue.rows) - tasks,
    }


def _interface(verdicts: Sequence[str]) -> bytes:
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name=_IMAGE, value=f"${_IMAGE}", zoomControl="true")
    choices = ElementTree.SubElement(
        view, "Choices", name=_CHOICES, toName=_IMAGE, choice="single", required="true", showInline="true"
    )
    for number, verdict in enumerate(verdicts):
        key = {"hotkey": _KEYS[number]} if number < len(_KEYS) else {}
        ElementTree.SubElement(choices, "Choice", {"value": verdict, **key})
    ElementTree.indent(view)
    content: bytes = ElementTree.tostring(view, encoding="utf-8")
    return content + b"\n"


def _tasks(queue: ReviewQueue) -> Iterator[dict[str, Any]]:
    rows = [row for row in queue.rows.to_pylist() if row["picture"] is not None]
    for start in range(0, len(rows), _READ_ROWS):
        some = rows[start : start + _READ_ROWS]
        pictures = map_in_threads(lambda row: read_bytes(join(queue.uri, row["picture"])), some)
        for row, picture in zip(some, pictures, strict=True):
            yield _task(queue, row, picture_within(picture, _MAX_PICTURE_BYTES))


def _task(queue: ReviewQueue, row: dict[str, Any], picture: bytes) -> dict[str, Any]:
    catalog = queue.record["catalog"]
    kind = "jpeg" if picture.startswith(_JPEG) else "png"
    choice = {
        "from_name": _CHOICES,
        "to_name": _IMAGE,
        "type": "choices",
        "value": {"choices": [row["predicted_class"]]},
    }
    prediction = {"model_version": catalog["model_id"], "score": round(row["confidence"], 6), "result": [choice]}
    return {
        "data": {
            _IMAGE: f"data:image/{kind};base64,{base64.b64encode(picture).decode()}",
            "object_id": str(row["object_id"]),  # text: JavaScript's numbers are not exact
            "queue": queue.name,
            "release": catalog["release"],
            "model_id": catalog["model_id"],
            "position": row["position"],
        },
        "predictions": [prediction],
    }


def _files(tasks: Iterator[dict[str, Any]]) -> Iterator[list[bytes]]:
    """The tasks as JSON, divided into files; at least one."""
    lines: list[bytes] = []
    size = 0
    for task in tasks:
        line = json.dumps(task).encode()
        if lines and size + len(line) > _MAX_FILE_BYTES:
            yield lines
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    yield lines
