"""Files at any fsspec URI: a local path, `s3://`, `gs://`, `http(s)://`, `memory://`.

Credentials and endpoints come from fsspec's own environment and config, never from ours.
"""

import contextlib
import io
import os
import posixpath
import uuid
from collections.abc import Sequence
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from galaxy_batch.errors import InputError

__all__ = [
    "check_writable",
    "filesystem",
    "join",
    "list_names",
    "parquet_bytes",
    "read_bytes",
    "read_heads",
    "remove_tree",
    "without_secrets",
    "write_atomically",
]

_TEMPORARY = ".tmp-"  # a file so named was never finished


def filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system that a URI lives on, and the path within it.

    Raises:
        InputError: the URI's scheme is unknown, or needs a driver that is not installed.
    """
    try:
        fs, path = fsspec.core.url_to_fs(uri)
    except (ImportError, ValueError) as error:
        raise InputError("uri", uri, f"no driver for this scheme: {error}") from None
    return fs, path


def join(uri: str, *names: str) -> str:
    """A URI below another: `join("s3://b/x", "y", "z")` is `s3://b/x/y/z`."""
    return posixpath.join(uri.rstrip("/"), *names)


def without_secrets(uri: str) -> str:
    """The URI as it may be shown: no user, password, query or fragment, where signatures and tokens hide."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path.partition('?')[0].partition('#')[0]}"


def read_bytes(uri: str) -> bytes:
    """The whole content of one file. Raises FileNotFoundError where there is none."""
    fs, path = filesystem(uri)
    content: bytes = fs.cat_file(path)
    return content


def read_heads(uris: Sequence[str], limit: int) -> list[bytes | Exception]:
    """At most `limit` bytes of each file, in the order asked; what failed is its exception, not raised.

    One ranged read per file: nothing asks for the size first, and a huge file is not read to its end.
    """
    answers: list[bytes | Exception] = [FileNotFoundError()] * len(uris)
    by_store: dict[str, list[int]] = {}
    for position, uri in enumerate(uris):
        by_store.setdefault(uri.rpartition("://")[0], []).append(position)
    for positions in by_store.values():
        try:
            found = _heads_of_one_store([uris[p] for p in positions], limit)
        except InputError as error:  # no driver for this scheme: a fact about these rows
            found = [error] * len(positions)
        for position, answer in zip(positions, found, strict=True):
            answers[position] = answer
    return answers


def _heads_of_one_store(uris: Sequence[str], limit: int) -> list[bytes | Exception]:
    fs, _ = filesystem(uris[0])
    paths = [fs._strip_protocol(uri) for uri in uris]
    if isinstance(fs, LocalFileSystem):
        return [_local_head(path, limit) for path in paths]
    return list(fs.cat_ranges(paths, [0] * len(paths), [limit] * len(paths), on_error="return"))


def list_names(uri: str) -> list[str]:
    """Sorted names of the finished files directly in a folder; empty where there is no such folder."""
    fs, path = filesystem(uri)
    fs.invalidate_cache()
    try:
        entries: list[dict[str, Any]] = fs.ls(path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    names = (posixpath.basename(e["name"].rstrip("/")) for e in entries if e["type"] == "file")
    return sorted(name for name in names if not name.startswith(_TEMPORARY))


def check_writable(folder_uri: str) -> None:
    """Write and remove a small file. Raises OSError, or what else the store's driver raises, where that fails."""
    probe = join(folder_uri, f"{_TEMPORARY}probe-{uuid.uuid4().hex}")
    write_atomically(probe, b"writable")
    remove_tree(probe)


def remove_tree(uri: str) -> None:
    """Delete a file, or a folder and all within; nothing happens where there is none."""
    fs, path = filesystem(uri)
    with contextlib.suppress(FileNotFoundError):
        fs.rm(path, recursive=True)


def write_atomically(uri: str, content: bytes) -> None:
    """Write one file in a single step: it is there whole, or not at all.

    Object stores do this by themselves (one PUT). On a local disk the bytes go to a temporary name, are
    flushed to the disk, and then renamed; so a machine that loses power leaves no half file either.
    """
    fs, path = filesystem(uri)
    if not isinstance(fs, LocalFileSystem):
        fs.pipe_file(path, content)
        return
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f"{_TEMPORARY}{name}-{uuid.uuid4().hex}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    _flush_folder(folder)


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as the bytes of one Parquet file, the same for the same table."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _flush_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _local_head(path: str, limit: int) -> bytes | Exception:
    try:
        with open(path, "rb") as file:
            return file.read(limit)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL byte
        return error
