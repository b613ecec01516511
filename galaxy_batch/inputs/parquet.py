"""Parquet files, with the columns of their paths, and units and frames as archives declare them."""

import contextlib
import functools
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import votable
from astropy.table.meta import get_header_from_yaml

from galaxy_batch.errors import InputError
from galaxy_batch.inputs.agreed_types import INFERRED
from galaxy_batch.inputs.astropy_columns import declared_frames
from galaxy_batch.inputs.files import path_columns
from galaxy_batch.inputs.flux_arrays import BAND, FLUX, band_names, flux_leaves, is_flux
from galaxy_batch.inputs.plain_types import plain, value_type
from galaxy_batch.inputs.positions import declare
from galaxy_batch.inputs.votable import declared_by_votable
from galaxy_batch.storage.files import open_parquet

__all__ = ["ParquetTable", "open_parquet_table"]

_VOTABLE_HEADER = b"IVOA.VOTable-Parquet.content"  # IVOA Note "Parquet in the VO"
_ASTROPY_HEADER = b"table_meta_yaml"


class ParquetTable:
    """One Parquet file of a manifest, read piece by piece."""

    def __init__(self, file: pq.ParquetFile, uri: str) -> None:
        self.file = file
        self.uri = uri
        stored = file.schema_arrow
        self._path_columns = {k: v for k, v in path_columns(uri).items() if k not in stored.names}
        self._declared = _declared(tuple((stored.metadata or {}).get(k) for k in (_VOTABLE_HEADER, _ASTROPY_HEADER)))

    @property
    def schema(self) -> pa.Schema:
        """Columns of the file and of its path, of plain types, with what the file declares of them."""
        stored = self.file.schema_arrow
        fields = [declare(f.with_type(value_type(f.type)), self._declared.get(f.name, {})) for f in stored]
        return pa.schema([*fields, *(_path_field(name, value) for name, value in self._path_columns.items())])

    @property
    def group_rows(self) -> list[int]:
        """Rows of each row group."""
        return [self.file.metadata.row_group(g).num_rows for g in range(self.file.num_row_groups)]

    def read(self, groups: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """The columns of some row groups."""
        return self._complete(self.file.read_row_groups(list(groups), self._leaves(columns)), columns)

    def batches(self, group: int, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """The columns of one row group, at most `rows` rows at a time."""
        yield from self.batches_of([group], columns, rows)

    def batches_of(self, groups: Sequence[int], columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        """The columns of some row groups, at most `rows` rows at a time."""
        for batch in self.file.iter_batches(rows, row_groups=list(groups), columns=self._leaves(columns)):
            yield self._complete(pa.Table.from_batches([batch]), columns)

    def bands(self, column: str) -> list[str]:
        """Names of the bands of the first image in a column of arrays of fluxes; empty where there is none."""
        leaves = flux_leaves(self._paths(), column, (BAND,))
        groups = (self.file.read_row_group(number, leaves) for number in range(self.file.num_row_groups))
        return next(filter(None, (band_names(plain(group[column])) for group in groups)), [])

    def empty(self, columns: Sequence[str]) -> pa.Table:
        """The columns without rows."""
        return pa.table([pa.array([], self.schema.field(c).type) for c in columns], names=list(columns))

    def _leaves(self, columns: Sequence[str]) -> list[str]:
        """The columns of the file that are read; of images as arrays of fluxes, only the bands and fluxes."""
        schema, paths = self.file.schema_arrow, self._paths()
        stored = [name for name in columns if name not in self._path_columns]
        groups = [
            flux_leaves(paths, n, (BAND, FLUX)) if is_flux(value_type(schema.field(n).type)) else [n] for n in stored
        ]
        return [path for group in groups for path in group]

    def _paths(self) -> list[str]:
        leaves = self.file.schema
        return [leaves.column(number).path for number in range(len(leaves))]

    def _complete(self, table: pa.Table, columns: Sequence[str]) -> pa.Table:
        schema = self.schema
        fields = [schema.field(name) for name in columns]
        arrays = [
            pa.chunked_array([pa.repeat(pa.scalar(self._path_columns[f.name], f.type), len(table))], f.type)
            if f.name in self._path_columns
            else plain(table[f.name])
            for f in fields
        ]
        return pa.table(arrays, schema=pa.schema([f.with_type(a.type) for f, a in zip(fields, arrays, strict=True)]))


@contextlib.contextmanager
def open_parquet_table(uri: str, in_pieces: bool = False) -> Iterator[ParquetTable]:
    """Open a Parquet file of a manifest; `in_pieces` as in `open_parquet`.

    Raises:
        InputError: it is not a Parquet file, or a damaged one.
    """
    try:
        with open_parquet(uri, in_pieces) as file:
            yield ParquetTable(file, uri)
    except pa.ArrowInvalid as error:
        raise InputError("manifest.uri", uri, f"cannot be read as Parquet: {str(error).splitlines()[0]}") from None


def _path_field(name: str, value: int | str | None) -> pa.Field:
    kind = pa.null() if value is None else pa.int64() if isinstance(value, int) else pa.string()
    return pa.field(name, kind, metadata={INFERRED: b"true"})


@functools.lru_cache(maxsize=8)  # files of one catalog have the same headers
def _declared(headers: tuple[bytes | None, bytes | None]) -> Mapping[str, Mapping[str, Any]]:
    """Units, UCDs and frames by column, from the header of a VOTable or of astropy in the file's metadata."""
    votable_header, astropy_header = headers
    if votable_header is not None:
        with contextlib.suppress(ValueError, OSError, IndexError):  # the file itself is readable without its header
            document = votable.parse(io.BytesIO(votable_header), verify="ignore")
            return declared_by_votable(document, document.get_first_table())
    if astropy_header is not None:
        with contextlib.suppress(ValueError, KeyError):
            header = get_header_from_yaml(astropy_header.decode().splitlines())
            frames = declared_frames(header.get("meta") or {})
            units = {column["name"]: column.get("unit") for column in header["datatype"]}
            return {name: {"unit": unit, "frame": frames(name)} for name, unit in units.items()}
    return {}
