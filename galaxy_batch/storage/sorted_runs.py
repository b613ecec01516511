"""Sorted runs: how rows get from the manifest's order into the sky's, with little memory and few reads.

::

    parts ──> runs, each sorted ──> what lies between two keys, of every run ──> files

It is the external merge sort of the textbooks (Knuth, The Art of Computer Programming 3, 5.4), spread over machines.
A run holds the rows of some parts, at most a million, sorted by a key; it is an Arrow file of compressed frames of
1024 rows, whose header has the first key of each frame. A reader of a range of keys so fetches the frames that touch
it, and at most two frames more than it needs. Every row is read twice, once in its part and once in its run, and
written twice. No process holds more than a run or a range; nothing passes through the driver or Ray's object store
but counts.

Why not Ray Data's own sort or groupby: its shuffle keeps the rows in the object store, which spills to local disks that
must have room for all of them, and its aggregators reserve CPUs for as long as it lasts, which on two CPUs is the way
to a job that hangs. A run on the output's own store needs neither, and a task that is repeated writes the same again.

The number of reads of a range is runs × ranges: 100 for ten million rows, and about a million, of some thousand rows
each, for a billion.
"""

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pyarrow as pa

from galaxy_batch.storage.files import filesystem, write_atomically
from galaxy_batch.storage.retries import with_retries

__all__ = ["RUN_ROWS", "all_at_once", "groups_of", "read_between", "write_run"]

T = TypeVar("T")
R = TypeVar("R")

RUN_ROWS = 1_000_000
"""Rows of a run, unless a single part has more."""
_FRAME_ROWS = 1024
_FIRST_KEYS = b"first_keys"
_READ_BYTES = 512 * 1024  # what is fetched at a time from an object store: a frame or two is not worth more
_THREADS = 16  # waiting for the store


def groups_of(sizes: Sequence[int], most: int) -> list[range]:
    """Neighbours put together while their sizes add up to at most `most`: ranges of positions in `sizes`."""
    groups: list[range] = []
    start, held = 0, 0
    for position, size in enumerate(sizes):
        if position > start and held + size > most:
            groups.append(range(start, position))
            start, held = position, 0
        held += size
    return [*groups, range(start, len(sizes))] if len(sizes) else []


def write_run(rows: pa.Table, key: str, uri: str) -> None:
    """Write rows that are sorted by the int64 column `key` as one run, in one atomic step."""
    frames = rows.combine_chunks().to_batches(max_chunksize=_FRAME_ROWS)
    first_keys = np.array([frame[key][0].as_py() for frame in frames], np.int64)
    schema = rows.schema.with_metadata({_FIRST_KEYS: first_keys.tobytes().hex().encode()})
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for frame in frames:
            writer.write_batch(frame.replace_schema_metadata(schema.metadata))
    write_atomically(uri, sink.getvalue())


def read_between(uri: str, key: str, low: int, last: int) -> pa.Table:
    """The rows of a run with `low` <= key <= `last`, in the run's order; little else of it is fetched."""
    rows = with_retries(lambda: _read_frames(uri, low, last))
    keys = rows[key].to_numpy()
    begin, end = np.searchsorted(keys, low, "left"), np.searchsorted(keys, last, "right")
    return rows.slice(begin, end - begin)


def _read_frames(uri: str, low: int, last: int) -> pa.Table:
    fs, path = filesystem(uri)
    with fs.open(path, "rb", block_size=_READ_BYTES) as file:
        reader = pa.ipc.open_file(file)
        first_keys = np.frombuffer(bytes.fromhex(reader.schema.metadata[_FIRST_KEYS].decode()), np.int64)
        start = max(0, int(np.searchsorted(first_keys, low, "left")) - 1)  # equal keys may reach into the frame before
        stop = int(np.searchsorted(first_keys, last, "right"))
        frames = [reader.get_batch(frame) for frame in range(start, stop)]
    return pa.Table.from_batches(frames, reader.schema).replace_schema_metadata(None)


def all_at_once(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """The function of every item, in order, in threads that mostly wait for the store."""
    with ThreadPoolExecutor(min(_THREADS, 4 * (os.cpu_count() or 1))) as pool:
        return list(pool.map(function, items))
