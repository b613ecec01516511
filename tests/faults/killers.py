"""Cutouts that kill the process which reads them, where the buggy decoder of the folder `killer` is at work."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from galaxy_batch.config import ClassifyConfig
from galaxy_batch.synthetic.rendering import render
from tests.support.models import SavedModel

WITH_KILLER = os.pathsep.join(filter(None, [str(Path(__file__).parent / "killer"), os.environ.get("PYTHONPATH")]))
"""The `PYTHONPATH` under which they do."""


def killer_cutout(way: str, image: bytes) -> bytes:
    """The same picture as a PNG that kills: `way` is a signal's name, or `hang`. Anywhere else it is a good PNG."""
    sink = io.BytesIO()
    Image.open(io.BytesIO(image)).save(sink, "PNG")
    return sink.getvalue() + b"killer:" + way.encode()


def encoded_chunk(ways: Sequence[str | None]) -> pa.Table:
    """Rows as `fetch_cutouts` gives them: a good galaxy for None, else a cutout that crashes in this way."""
    images = [render(number, seed=1) if way is None else killer_cutout(way, render(number, seed=1))
              for number, way in enumerate(ways)]  # fmt: skip
    count = len(ways)
    return pa.table({
        "object_id": range(count), "_chunk": pa.array([5] * count, pa.int32()), "status": ["ok"] * count,
        "error": pa.nulls(count, pa.string()), "_image_bytes": pa.array(images, pa.large_binary()),
    })  # fmt: skip


def classifier_settings(saved: SavedModel) -> dict[str, Any]:
    return {
        "checkpoint_uri": saved.uri, "config": ClassifyConfig(), "batch_size": 4, "engine": "torch",
        "precision": "fp32", "threads": 1,
    }  # fmt: skip
