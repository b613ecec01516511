"""Cutouts that crash the process that reads them, if it uses the buggy decoder in the folder `killer`."""

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
"""`PYTHONPATH` with the buggy decoder."""


def killer_cutout(crash: str, image: bytes) -> bytes:
    """The image as a PNG that crashes the buggy decoder; `crash` is a signal's name or `hang`."""
    sink = io.BytesIO()
    Image.open(io.BytesIO(image)).save(sink, "PNG")
    return sink.getvalue() + b"killer:" + crash.encode()


def encoded_chunk(crashes: Sequence[str | None]) -> pa.Table:
    """Rows as `fetch_cutouts` gives them: a good galaxy for None, else a cutout that crashes in this way."""
    images = [render(number, seed=1) if crash is None else killer_cutout(crash, render(number, seed=1))
              for number, crash in enumerate(crashes)]  # fmt: skip
    count = len(crashes)
    return pa.table({
        "object_id": range(count), "_chunk": pa.array([5] * count, pa.int32()), "status": ["ok"] * count,
        "error": pa.nulls(count, pa.string()), "_image_bytes": pa.array(images, pa.large_binary()),
    })  # fmt: skip


def classifier_settings(saved: SavedModel) -> dict[str, Any]:
    return {
        "checkpoint_uri": saved.uri, "config": ClassifyConfig(), "batch_size": 4, "engine": "torch",
        "precision": "fp32", "threads": 1,
    }  # fmt: skip
