"""Reading the files of a published catalog: with retries, and with an error that names a damaged file."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from galaxy_batch.catalog import hats
from galaxy_batch.catalog.files import RowFile
from galaxy_batch.errors import InputError
from galaxy_batch.runtime.progress import with_progress
from galaxy_batch.storage.files import filesystem, join, open_parquet
from galaxy_batch.storage.retries import with_retries
from galaxy_batch.storage.threads import map_in_threads

__all__ = ["DamagedCatalogError", "files_in_turn", "read_file", "read_row_group", "read_schema", "row_groups"]

T = TypeVar("T")

_FILES_AT_ONCE = 4


class DamagedCatalogError(InputError):
    """A file of a published catalog is missing, or its content is wrong."""


class _HasRows(Protocol):
    @property
    def rows(self) -> int: ...


F = TypeVar("F", bound=_HasRows)


def read_file(catalog_uri: str, path: str, read: Callable[[pq.ParquetFile], T], field: str = "catalog_uri") -> T:
    """What a function reads of a Parquet file of a catalog; it is called again where the store fails.

    Args:
        catalog_uri: the catalog's folder.
        path: of the file, as in `manifest.json`.
        read: function of the open file; it may raise ValueError where the content is wrong.
        field: the setting that names the catalog, for the error.

    Raises:
        DamagedCatalogError: the file is missing or damaged.
        OSError: the disk or the store fails, after retries.
    """
    is_local = isinstance(filesystem(catalog_uri)[0], LocalFileSystem)

    def attempt() -> T:
        try:
            with open_parquet(join(catalog_uri, path)) as parquet:
                return read(parquet)
        except OSError as error:
            if is_local and type(error) is OSError and error.errno is None:  # of pyarrow: no store has cut it short
                raise ValueError(error) from None
            raise

    try:
        return with_retries(attempt)
    except FileNotFoundError:
        raise DamagedCatalogError(field, catalog_uri, f"{path} is missing: verify the catalog") from None
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the disk or the store; those of pyarrow have no errno
        raise DamagedCatalogError(field, catalog_uri, f"{path} is damaged, verify the catalog: {error}") from None


def read_schema(catalog_uri: str) -> pa.Schema:
    """The columns of a catalog, with unit, UCD and description in the metadata of each. Raises as `read_file`."""
    return read_file(catalog_uri, hats.COMMON_METADATA, lambda parquet: parquet.schema_arrow)


def row_groups(catalog_uri: str, file: RowFile, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
    """The row groups of a file of a catalog, one after the other, with their numbers. Raises as `read_file`."""
    groups = read_file(catalog_uri, file.path, lambda parquet: parquet.num_row_groups)
    for group in range(groups):
        yield group, read_row_group(catalog_uri, file, group, columns)


def read_row_group(catalog_uri: str, file: RowFile, group: int, columns: Sequence[str]) -> pa.Table:
    """Columns of one row group of a file of a catalog. Raises as `read_file`."""
    return read_file(catalog_uri, file.path, lambda parquet: parquet.read_row_group(group, columns=list(columns)))


def files_in_turn(files: Sequence[F], step: str, read: Callable[[int, F], T]) -> Iterator[T]:
    """What a function reads of each file, in their order; a few files are read concurrently, and no more are in memory.

    Args:
        files: of a catalog, or ranges of them.
        step: name of the step, for the progress in the log.
        read: function of the number of a file among these, and the file.
    """
    starts = range(0, len(files), _FILES_AT_ONCE)
    groups = [range(start, min(start + _FILES_AT_ONCE, len(files))) for start in starts]
    total = sum(file.rows for file in files)
    for group in with_progress(groups, step, total, lambda group: sum(files[number].rows for number in group)):
        yield from map_in_threads(lambda number: read(number, files[number]), group)
