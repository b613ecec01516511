"""Files at any fsspec URI: a local path, `s3://`, `gs://`, `http(s)://`, `memory://`.

All other modules read and write files through this one. Credentials and endpoints come from the environment and
config of the drivers, never from ours.
"""

import contextlib
import io
import json
import os
import posixpath
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from galaxy_batch.errors import InputError, without_secrets
from galaxy_batch.storage.archives import DamagedMemberError
from galaxy_batch.storage.downloads import NotAFileError, StoreDownError, is_empty, read_heads
from galaxy_batch.storage.drivers import CONCURRENT_READS, filesystem, filesystem_without_retries
from galaxy_batch.storage.ranges import RangedFile
from galaxy_batch.storage.retries import with_retries

__all__ = [
    "CONCURRENT_READS",
    "DamagedMemberError",
    "NotAFileError",
    "RangedFile",
    "StoreDownError",
    "beside",
    "check_outside",
    "check_writable",
    "filesystem",
    "join",
    "list_folders",
    "list_names",
    "open_parquet",
    "parquet_bytes",
    "read_bytes",
    "read_heads",
    "remove_temporary_folder",
    "remove_tree",
    "without_secrets",
    "write_atomically",
    "write_json",
]

T = TypeVar("T")

_PIECE_BYTES = 8 << 20
_LARGE_GROUP_BYTES = 128 << 20
_TEMPORARY = ".tmp-"  # name prefix of files that were never finished


def join(uri: str, *names: str) -> str:
    """A URI below another: `join("s3://b/x", "y", "z")` is `s3://b/x/y/z`."""
    return posixpath.join(uri.rstrip("/"), *names)


def beside(uri: str, *names: str) -> str:
    """A URI in the folder of another: `beside("s3://b/x/catalog", "audit", "first")` is `s3://b/x/audit/first`."""
    return join(posixpath.dirname(uri.rstrip("/")), *names)


def check_outside(field: str, uri: str, catalog_uri: str) -> None:
    """Raise InputError if `uri` is in the folder of the catalog, or is that folder."""
    if f"{_real(uri)}/".startswith(join(_real(catalog_uri), "")):
        raise InputError(field, uri, "is inside the catalog's folder; choose another folder")


def read_bytes(uri: str) -> bytes:
    """Read the whole content of one file; from a remote store with retries.

    Raises:
        FileNotFoundError: there is no such file.
        PermissionError: the store refuses access, or there are no credentials for it.
    """
    fs, path = filesystem_without_retries(uri)

    def read() -> bytes:
        try:
            content: bytes = fs.cat_file(path, start=0)  # with a start, no driver requests the size first
        except Exception as error:
            if is_empty(error):
                return b""
            raise
        return content

    return read() if isinstance(fs, LocalFileSystem) else _request(read, uri)


@contextlib.contextmanager
def open_parquet(uri: str, in_pieces: bool = False) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file to read parts of it: only the footer and those parts are fetched, adjacent ones together.

    Read-ahead is switched off: with that of s3fs, 50 MB, a column of ids would fetch a whole file of images.

    Args:
        uri: of the file.
        in_pieces: whether columns are fetched in pieces of 8 MiB, as their rows are read, where the file has row groups
            of more than 128 MiB, which may not fit in memory.
    """
    fs, path = filesystem(uri)
    with fs.open(path, "rb", cache_type="none") as file, pq.ParquetFile(file, pre_buffer=True) as parquet:
        footer = parquet.metadata
        groups = (footer.row_group(number) for number in range(footer.num_row_groups if in_pieces else 0))
        if any(_stored_bytes(group) > _LARGE_GROUP_BYTES for group in groups):
            yield pq.ParquetFile(file, metadata=footer, buffer_size=_PIECE_BYTES, pre_buffer=False)
        else:
            yield parquet


def list_names(uri: str) -> list[str]:
    """Sorted names of the finished files directly in a folder; empty if the folder does not exist.

    Raises:
        PermissionError: the store refuses access, or there are no credentials for it.
    """
    return [name for name in _entries(uri, "file") if not name.startswith(_TEMPORARY)]


def list_folders(uri: str) -> list[str]:
    """Sorted names of the folders directly in a folder; empty if it does not exist. Raises as `list_names`."""
    return _entries(uri, "directory")


def _entries(uri: str, kind: str) -> list[str]:
    fs, path = filesystem(uri)
    fs.invalidate_cache()
    try:
        entries: list[dict[str, Any]] = fs.ls(path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except Exception as error:
        _raise_without_credentials(error, uri)
        raise
    return sorted(posixpath.basename(entry["name"].rstrip("/")) for entry in entries if entry["type"] == kind)


def check_writable(folder_uri: str, output_uri: str | None = None, field: str = "output_uri") -> None:
    """Write and remove a small file, and the local folders it needed.

    Args:
        folder_uri: where to write.
        output_uri: what the error names; the folder where that is not given.
        field: the setting that gives it, for the error.

    Raises:
        InputError: writing or removing fails.
    """
    probe = join(folder_uri, f"{_TEMPORARY}probe-{uuid.uuid4().hex}")
    created = _missing_folders(folder_uri)
    try:
        write_atomically(probe, b"writable")
        remove_tree(probe)
    except (OSError, NotImplementedError) as error:
        raise InputError(field, output_uri or folder_uri, f"cannot be written: {error}") from None
    with contextlib.suppress(OSError):  # another process may have written there meanwhile
        for folder in created:
            os.rmdir(folder)


def remove_tree(uri: str) -> None:
    """Delete a file, or a folder and its content, if it exists.

    Raises:
        OSError: something is left, for instance because the credentials allow writing but not deleting.
    """
    fs, path = filesystem(uri)
    fs.invalidate_cache()  # else files that others wrote since would be left
    with contextlib.suppress(FileNotFoundError):
        fs.rm(path, recursive=True)
        fs.invalidate_cache()
        if not isinstance(fs, LocalFileSystem) and fs.find(path):  # s3fs does not report keys that it may not delete
            raise PermissionError(f"cannot be deleted: {without_secrets(uri)}")


def remove_temporary_folder(uri: str) -> None:
    """Delete a folder and its content, if it exists, and on a local disk the folder above where that is empty then.

    Raises:
        OSError: as in `remove_tree`.
    """
    remove_tree(uri)
    fs, path = filesystem(uri)
    if isinstance(fs, LocalFileSystem):
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(path))


def write_atomically(uri: str, content: bytes) -> None:
    """Write one file atomically: readers see the whole file or none.

    On object stores this is one PUT, with retries, or above 100 MB a multipart upload, invisible until it is complete.
    On a local disk the bytes go to a temporary file, which is flushed to the disk and then renamed, so that a power
    failure leaves no partial file either.
    """
    fs, path = filesystem_without_retries(uri)
    if isinstance(fs, LocalFileSystem):
        _write_local(path, content)
    else:
        _request(lambda: fs.pipe_file(path, content), uri)


def write_json(uri: str, content: Mapping[str, Any]) -> None:
    """Write one JSON file in one atomic step."""
    write_atomically(uri, (json.dumps(content, indent=2) + "\n").encode())


def parquet_bytes(table: pa.Table) -> bytes:
    """Encode a table as one Parquet file; the same table gives the same bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _real(uri: str) -> str:
    """The URI; a local path without symbolic links and `..`."""
    path = uri.removeprefix("file://")
    return uri if "://" in path else os.path.realpath(path)


def _stored_bytes(group: pq.RowGroupMetaData) -> int:
    return sum(group.column(number).total_compressed_size for number in range(group.num_columns))


def _missing_folders(folder_uri: str) -> list[str]:
    """Folders that a local write would create, innermost first."""
    fs, path = filesystem(folder_uri)
    missing: list[str] = []
    while isinstance(fs, LocalFileSystem) and path and not os.path.exists(path):
        missing.append(path)
        path = os.path.dirname(path)
    return missing


def _request(call: Callable[[], T], uri: str) -> T:
    """As `with_retries`; the drivers' various errors for missing credentials become a PermissionError."""
    try:
        return with_retries(call)
    except Exception as error:
        _raise_without_credentials(error, uri)
        raise


def _raise_without_credentials(error: Exception, uri: str) -> None:
    if "Credential" in type(error).__name__:
        raise PermissionError(f"no credentials for {without_secrets(uri)}: {type(error).__name__}") from None


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
