"""The page to review a queue on: one HTML file that opens from disk, beside its pictures.

Its data are JSON in the page, column by column; ids are text, because numbers of JavaScript are exact only up to 2^53.
"""

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from importlib import resources
from typing import Any

import pyarrow as pa

from galaxy_batch.links import cutout_links, locations
from galaxy_batch.report.page import render
from galaxy_batch.review_queue.attention import AttentionMaps
from galaxy_batch.review_queue.queue import ReviewQueue
from galaxy_batch.rows import IMAGE_URI_COLUMN, ReviewFlag, probability_columns
from galaxy_batch.storage.files import join, list_names, write_atomically

__all__ = ["PAGE", "has_page", "queue_identity", "write_page"]

PAGE = "index.html"


def write_page(queue: ReviewQueue, attention: AttentionMaps | None = None) -> str:
    """Write the page into the queue's folder; its URI.

    Args:
        queue: with its pictures.
        attention: maps that the page can show over the pictures.
    """
    script = _source("review.js")
    # the hash lets this script run and no other, should text of the catalog ever be taken for markup
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    html = render(
        "galaxy_batch.review_queue",
        "review.html",
        queue=_content(queue, attention),
        style=_source("review.css"),
        script=script,
        script_hash=f"sha256-{digest}",
    )
    uri = join(queue.uri, PAGE)
    write_atomically(uri, html.encode())
    return uri


def has_page(queue: ReviewQueue) -> bool:
    """Whether the page is in the queue's folder."""
    return PAGE in list_names(queue.uri)


def queue_identity(queue: ReviewQueue) -> str:
    """What tells a queue from every other, also from one of the same name: verdicts are kept under it."""
    record = queue.record
    parts = [record["name"], record.get("created"), record["catalog"], record["verdicts"], record["rows"]]
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()


def _source(name: str) -> str:
    return (resources.files("galaxy_batch.review_queue") / "templates" / name).read_text(encoding="utf-8")


def _content(queue: ReviewQueue, attention: AttentionMaps | None) -> dict[str, Any]:
    """What the page knows. Columns are lists in the order to look at; position N is at place N - 1."""
    rows, record = queue.rows, queue.record
    reasons = rows["reason"].combine_chunks().dictionary_encode()
    classes = {name: number for number, name in enumerate(queue.classes)}
    return {
        "identity": queue_identity(queue),
        "queue": queue.name,
        "release": record["catalog"]["release"],
        "model_id": record["catalog"]["model_id"],
        "classes": list(queue.classes),
        "verdicts": list(queue.verdicts),
        "titles": record.get("class_titles", {}),
        "links": list(record.get("links", {}).items()),
        "cutouts": _cutout_links(queue),
        "flags": {str(int(flag)): flag.name for flag in ReviewFlag},
        "ids": [str(object_id) for object_id in rows["object_id"].to_pylist()],
        "pictures": rows["picture"].to_pylist(),
        "errors": {place: error for place, error in enumerate(rows["picture_error"].to_pylist()) if error is not None},
        "reasons": reasons.dictionary.to_pylist(),
        "reason": reasons.indices.to_pylist(),
        "predicted": [classes.get(name) for name in rows["predicted_class"].to_pylist()],
        "confidence": _rounded(rows["confidence"], 3),
        "probabilities": [_rounded(rows[column], 3) for column in probability_columns(queue.classes)],
        "review_flags": rows["review_flags"].to_pylist(),
        "ra": _rounded(rows["ra"], 6),
        "dec": _rounded(rows["dec"], 6),
        "attention": None if attention is None else _maps(attention, rows["position"].to_pylist()),
    }


def _cutout_links(queue: ReviewQueue) -> list[list[tuple[str, str]]] | None:
    """Name and address of each row's cutout, or of its bands; None where the queue has no locations."""
    if IMAGE_URI_COLUMN.name not in queue.rows.column_names:
        return None
    uris = map(locations, queue.rows[IMAGE_URI_COLUMN.name].to_pylist())
    return [list(cutout_links(of_row, queue.uri).items()) for of_row in uris]


def _maps(attention: AttentionMaps, positions: Sequence[int]) -> dict[str, Any]:
    encoded = (attention.maps.get(position) for position in positions)
    return {
        "cells": attention.cells,
        "crop": attention.crop_fraction,
        "maps": [None if values is None else base64.b64encode(values).decode("ascii") for values in encoded],
    }


def _rounded(column: pa.ChunkedArray, digits: int) -> list[float | None]:
    """Values with this many decimals; None where they are null or not finite, which JSON has no word for."""
    values = column.to_pylist()
    return [round(value, digits) if value is not None and math.isfinite(value) else None for value in values]
