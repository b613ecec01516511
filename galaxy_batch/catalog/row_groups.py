"""The row groups of a catalog's files, read one at a time."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from galaxy_batch.catalog.files import RowFile
from galaxy_batch.errors import InputError
from galaxy_batch.storage.files import join, open_parquet
from galaxy_batch.storage.retries import with_retries

__all__ = ["read_row_group", "row_groups"]

T = TypeVar("T")


def row_groups(catalog_uri: str, file: RowFile, columns: Sequence[str]) -> Iterator[tuple[int, pa.Table]]:
    """The row groups of a file, one after the other, with their numbers.

    Raises:
        InputError: the file is missing or damaged.
    """
    groups = _with_file(catalog_uri, file, lambda parquet: parquet.num_row_groups)
    for group in range(groups):
        yield group, read_row_group(catalog_uri, file, group, columns)


def read_row_group(catalog_uri: str, file: RowFile, group: int, columns: Sequence[str]) -> pa.Table:
    """Some columns of one row group of a file; errors as `row_groups`."""
    return _with_file(catalog_uri, file, lambda parquet: parquet.read_row_group(group, columns=list(columns)))


def _with_file(catalog_uri: str, file: RowFile, read: Callable[[pq.ParquetFile], T]) -> T:
    """What a function reads of a file, with retries."""

    def attempt() -> T:
        with open_parquet(join(catalog_uri, file.path)) as parquet:
            return read(parquet)

    try:
        return with_retries(attempt)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError):
            raise  # an error of the disk or the store; those of pyarrow have no errno
        raise InputError("catalog_uri", catalog_uri, f"{file.path} is damaged, verify the catalog: {error}") from None
