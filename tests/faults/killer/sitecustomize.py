"""A decoder with a bug: in a Python that has this folder on its path, some cutouts end the process that opens them.

Python imports a module of this name when it starts, and so do Ray's workers and all children. The production code
knows nothing of it; the signals are real.
"""

import ctypes
import io
import os
import re
import signal
from typing import Any

from PIL import Image

_open = Image.open


def _buggy_open(source: Any, *arguments: Any, **options: Any) -> Image.Image:
    if isinstance(source, io.BytesIO) and (found := re.search(rb"killer:(\w+)", source.getvalue())):
        if found[1] == b"hang":
            ctypes.PyDLL(None).pause()  # as C code that never returns, and never lets another thread run
        os.kill(os.getpid(), signal.Signals[found[1].decode()])
    return _open(source, *arguments, **options)


Image.open = _buggy_open
