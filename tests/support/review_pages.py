"""A small review queue with pictures and a page, and a Chromium to look at it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import simplejpeg

from galaxy_batch.review_queue.page import write_page
from galaxy_batch.review_queue.queue import ReviewQueue, queue_schema, verdict_names, write_queue
from galaxy_batch.rows import probability_columns
from tests.support.browser import CHROMIUM

FIRST_ID = 587722981736054938
"""Of the first galaxy: not exact as a number of JavaScript."""
PICTURE_PX = 64


def review_queue(
    folder: Path,
    rows: int = 12,
    classes: Sequence[str] = ("smooth", "featured"),
    ids: Sequence[str] = (),
    **record: Any,
) -> ReviewQueue:
    """A queue with its pictures, without its page: galaxy 3 has no picture.

    Args:
        folder: of the queue.
        rows: galaxies.
        classes: of the catalog; the predicted class is the first one, with confidence 0.9.
        ids: text ids in place of integers.
        record: further entries of `queue.json`.
    """
    schema = queue_schema(pa.string() if ids else pa.int64(), list(classes))
    table = []
    for place in range(rows):
        path = f"pictures/{(place + 1) // 1000:03d}/{place + 1:05d}.jpg"
        missing = place == 2
        if not missing:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(_picture(place))
        shares = {name: 0.9 if not at else 0.1 for at, name in enumerate(probability_columns(classes))}
        table.append(
            {
                "position": place + 1,
                "object_id": ids[place] if ids else FIRST_ID + place,
                "reason": "LOW_CONFIDENCE; uniform",
                "inclusion_probability": 0.5,
                "predicted_class": classes[0],
                "confidence": 0.9,
                **shares,
                "review_flags": 1,
                "ra": 180.5 if place else None,
                "dec": -1.25 if place else None,
                "image_hash": place,
                "picture": None if missing else path,
                "picture_error": "missing: no such file" if missing else None,
            }
        )
    catalog = {"release": "DR1", "model_id": "abcd1234", "run_id": "run", "fingerprint": "print", "rows": 1000}
    links = {"SkyServer": "https://skyserver.example/?ra={ra}&dec={dec}", "Object": "https://x.example/{object_id}"}
    about = {
        "name": "first",
        "created": "2026-11-26T18:00:00Z",
        "seed": 0,
        "catalog": catalog,
        "classes": list(classes),
        "verdicts": verdict_names(list(classes)),
        "links": links,
        "draws": [],
        "rows": rows,
        "pictures": rows - 1,
        **record,
    }
    queue = ReviewQueue(str(folder), about, pa.Table.from_pylist(table, schema))
    write_queue(queue)
    return queue


def review_page(folder: Path, **settings: Any) -> ReviewQueue:
    """`review_queue` with its page."""
    queue = review_queue(folder, **settings)
    write_page(queue)
    return queue


def _picture(place: int) -> bytes:
    """A disc that is brighter on the left, at another brightness for each galaxy."""
    y, x = np.mgrid[:PICTURE_PX, :PICTURE_PX] - (PICTURE_PX - 1) / 2
    light = (np.hypot(x, y) < 20) * (140.0 + 5 * (place % 10) - x)
    content: bytes = simplejpeg.encode_jpeg(np.repeat(light[..., None], 3, axis=2).astype(np.uint8), 90)
    return content


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser of Playwright; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as manager:
        browser = manager.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
