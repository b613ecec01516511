"""Sorted runs: an external merge sort on the output's store, from the order of the manifest to the order of the sky.

::

    parts ──> runs, each sorted ──> rows in a range of keys, from every run ──> files

This is the textbook algorithm (Knuth, The Art of Computer Programming 3, 5.4), distributed over machines. A run holds
the rows of some parts, at most a million, sorted by a key. It is an Arrow file of compressed frames of 1024 rows, with
the first key of each frame in its header, so that reading a range of keys fetches only the frames that overlap it.
Every row is read and written twice. No process holds more than a run or a range, and only counts pass through the
driver or Ray's object store.

Why not Ray Data's sort or groupby: its shuffle keeps all rows in the object store, which spills to local disks, and its
aggregators reserve CPUs throughout, which on two CPUs can deadlock the job. Runs need neither, and a repeated task
writes identical files.

The number of reads is runs × ranges: 100 for ten million rows; about a million, of some thousand rows each, for a
billion.
"""

import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from galaxy_batch.storage.files import filesystem, write_atomically
from galaxy_batch.storage.retries import with_retries
from galaxy_batch.storage.threads import map_in_threads

__all__ = ["RUN_ROWS", "consecutive_groups", "read_all_between", "read_between", "write_run"]

RUN_ROWS = 1_000_000
"""Largest number of rows in a run, unless a single part has more."""
_FRAME_ROWS = 1024
_FIRST_KEYS = b"first_keys"
_READ_BYTES = 512 * 1024  # fetched per request; a range is often only a frame or two


def consecutive_groups(sizes: Sequence[int], most: int) -> list[range]:
    """Group consecutive items so that their sizes add up to at most `most`; ranges of positions in `sizes`."""
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
    """Read the rows of a run with `low` <= key <= `last`; little else of it is fetched."""
    rows = with_retries(lambda: _read_frames(uri, low, last))
    keys = rows[key].to_numpy()
    begin, end = np.searchsorted(keys, low, "left"), np.searchsorted(keys, last, "right")
    return rows.slice(begin, end - begin)


def read_all_between(uris: Sequence[str], key: str, low: int, last: int) -> pa.Table:
    """Read the rows of several runs with `low` <= key <= `last`, run after run; a few runs at a time."""
    return pa.concat_tables(map_in_threads(lambda uri: read_between(uri, key, low, last), uris))


def _read_frames(uri: str, low: int, last: int) -> pa.Table:
    fs, path = filesystem(uri)
    with fs.open(path, "rb", block_size=_READ_BYTES) as file:
        reader = pa.ipc.open_file(file)
        first_keys = np.frombuffer(bytes.fromhex(reader.schema.metadata[_FIRST_KEYS].decode()), np.int64)
        start = max(0, int(np.searchsorted(first_keys, low, "left")) - 1)  # equal keys may begin in the frame before
        stop = int(np.searchsorted(first_keys, last, "right"))
        frames = [reader.get_batch(frame) for frame in range(start, stop)]
    return pa.Table.from_batches(frames, reader.schema).replace_schema_metadata(None)
