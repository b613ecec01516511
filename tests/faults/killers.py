"""Cutouts that kill the process which reads them, where the buggy decoder of the folder `killer` is at work."""

import io
import os
from pathlib import Path

from PIL import Image

__all__ = ["WITH_KILLER", "killer_cutout"]

WITH_KILLER = os.pathsep.join(filter(None, [str(Path(__file__).parent / "killer"), os.environ.get("PYTHONPATH")]))
"""The `PYTHONPATH` under which they do."""


def killer_cutout(way: str, image: bytes) -> bytes:
    """The same picture as a PNG that kills: `way` is a signal's name, or `hang`. Anywhere else it is a good PNG."""
    sink = io.BytesIO()
    Image.open(io.BytesIO(image)).save(sink, "PNG")
    return sink.getvalue() + b"killer:" + way.encode()
