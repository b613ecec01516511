"""Files at any fsspec URI: a local path, `s3://`, `gs://`, `http(s)://`, `memory://`.

This is the one door to files for all other modules. Credentials and endpoints come from the drivers' own environment
and config, never from ours.
"""

import contextlib
import io
import os
import posixpath
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from galaxy_batch.errors import InputError, without_secrets
from galaxy_batch.storage.downloads import NotAFileError, is_empty, read_heads
from galaxy_batch.storage.drivers import filesystem, filesystem_without_retries
from galaxy_batch.storage.retries import with_retries

__all__ = [
    "NotAFileError",
    "check_writable",
    "filesystem",
    "join",
    "list_names",
    "open_parquet",
    "parquet_bytes",
    "read_bytes",
    "read_heads",
    "remove_tree",
    "without_secrets",
    "write_atomically",
]

T = TypeVar("T")

_TEMPORARY = ".tmp-"  # a file so named was never finished


def join(uri: str, *names: str) -> str:
    """A URI below another: `join("s3://b/x", "y", "z")` is `s3://b/x/y/z`."""
    return posixpath.join(uri.rstrip("/"), *names)


def read_bytes(uri: str) -> bytes:
    """The whole content of one file, from a remote store with retries.

    Raises:
        FileNotFoundError: there is none.
        PermissionError: the store refuses, or no credentials for it were found.
    """
    fs, path = filesystem_without_retries(uri)

    def read() -> bytes:
        try:
            content: bytes = fs.cat_file(path, start=0)  # with a start, no driver asks for the size first
        except Exception as error:
            if is_empty(error):
                return b""
            raise
        return content

    return read() if isinstance(fs, LocalFileSystem) else _asked(read, uri)


@contextlib.contextmanager
def open_parquet(uri: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file to read pieces of: what is fetched is its footer and the pieces, neighbours in one request.

    By itself a driver reads ahead, s3fs by 50 MB: through a file of images, all of it for a column of ids.
    """
    fs, path = filesystem(uri)
    with fs.open(path, "rb", cache_type="none") as file, pq.ParquetFile(file, pre_buffer=True) as parquet:
        yield parquet


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


def check_writable(folder_uri: str, output_uri: str | None = None) -> None:
    """Write and remove a small file, and the local folders it needed.

    Raises:
        InputError: writing or removing fails; it names `output_uri`, or the folder where that is not given.
    """
    probe = join(folder_uri, f"{_TEMPORARY}probe-{uuid.uuid4().hex}")
    created = _missing_folders(folder_uri)
    try:
        write_atomically(probe, b"writable")
        remove_tree(probe)
    except (OSError, NotImplementedError) as error:
        raise InputError("output_uri", output_uri or folder_uri, f"cannot be written: {error}") from None
    with contextlib.suppress(OSError):  # another process may have written there meanwhile
        for folder in created:
            os.rmdir(folder)


def remove_tree(uri: str) -> None:
    """Delete a file, or a folder and all within; nothing happens where there is none.

    Raises:
        OSError: something is still there, for instance because writing is allowed and deleting is not.
    """
    fs, path = filesystem(uri)
    fs.invalidate_cache()  # a listing that others have added to since would spare what they wrote
    with contextlib.suppress(FileNotFoundError):
        fs.rm(path, recursive=True)
        fs.invalidate_cache()
        if not isinstance(fs, LocalFileSystem) and fs.find(path):  # s3fs says nothing of keys that it may not delete
            raise PermissionError(f"cannot be deleted: {without_secrets(uri)}")


def write_atomically(uri: str, content: bytes) -> None:
    """Write one file in a single step: it is there whole, or not at all.

    Object stores do this by themselves: one PUT, tried again where it failed, or from 100 MB on a multipart upload,
    which shows nothing until it is complete. On a local disk the bytes go to a temporary name, are flushed to the
    disk, and then renamed; so a machine that loses power leaves no half file either.
    """
    fs, path = filesystem_without_retries(uri)
    if isinstance(fs, LocalFileSystem):
        _write_local(path, content)
    else:
        _asked(lambda: fs.pipe_file(path, content), uri)


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as the bytes of one Parquet file, the same for the same table."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _missing_folders(folder_uri: str) -> list[str]:
    """Folders that a local write would have to make, the innermost first."""
    fs, path = filesystem(folder_uri)
    missing: list[str] = []
    while isinstance(fs, LocalFileSystem) and path and not os.path.exists(path):
        missing.append(path)
        path = os.path.dirname(path)
    return missing


def _asked(call: Callable[[], T], uri: str) -> T:
    """As `with_retries`; what the drivers call it when nobody told them a key is a PermissionError here."""
    try:
        return with_retries(call)
    except Exception as error:
        if "Credential" in type(error).__name__:
            raise PermissionError(f"no credentials for {without_secrets(uri)}: {type(error).__name__}") from None
        raise


def _write_local(path: str, content: bytes) -> None:
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


def _flush_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
