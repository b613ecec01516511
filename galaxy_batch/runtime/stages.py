"""The stages that turn a chunk into a part, around the classifier: functions of the chunk's table of rows."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import pyarrow as pa

__all__ = ["Stage", "Stages", "StagesOf"]

Stage = functools.partial[pa.Table]
"""A function of the rows, with its keywords."""


class Stages(NamedTuple):
    """In the order in which they run."""

    before: tuple[Stage, ...]
    """From the chunk's item of the manifest to encoded cutouts."""
    after: tuple[Stage, ...]
    """From classified rows to one row that describes the written part."""


StagesOf = Callable[[int], Stages]
"""The stages, by the simultaneous requests that one reading task may make to an http(s) host."""
