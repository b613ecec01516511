"""Requests to a store, many at a time."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["map_in_threads"]

T = TypeVar("T")
R = TypeVar("R")

_THREADS = 16


def map_in_threads(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """The function's result for each item, in order. The threads mostly wait for the store."""
    with ThreadPoolExecutor(min(_THREADS, 4 * (os.cpu_count() or 1))) as pool:
        return list(pool.map(function, items))
