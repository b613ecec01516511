"""The second table of a manifest, whose columns are added to the first by a key."""

import logging

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.config import JoinConfig, ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.columns import check_columns, exact_ids, wanted_columns
from galaxy_batch.inputs.files import is_parquet, manifest_files
from galaxy_batch.inputs.image_uris import template_columns
from galaxy_batch.inputs.parquet import open_parquet_table
from galaxy_batch.inputs.plain_types import is_text, value_type
from galaxy_batch.inputs.tables import read_table

__all__ = ["SecondTable", "read_second_table", "with_columns"]

logger = logging.getLogger(__name__)

_SHOWN = 5
_ROW = "_row"


class SecondTable:
    """The key and the columns of a second table, in memory, one row per key."""

    def __init__(self, table: pa.Table, keys: pa.ChunkedArray, config: ManifestConfig, join: JoinConfig) -> None:
        self.table, self.keys, self.config, self.join = table, keys, config, join
        self.rows = self.unmatched = 0
        """Rows of the first table that were looked up, and those of them without a row here."""

    def columns_of(self, first: pa.Table) -> pa.Table:
        """The columns of this table for each row of the first; null where its key is not here."""
        positions = self._positions(first)
        self.rows += len(positions)
        self.unmatched += int((positions < 0).sum())
        return self.table.take(pa.array(positions, mask=positions < 0))

    def check(self) -> None:
        """Refuse a join that finds nothing; log how many objects have no row.

        Raises:
            InputError: no object has a row in the second table.
        """
        join, missing = self.join, self.unmatched
        if missing and missing == self.rows:
            keys = ", ".join(map(str, self.keys.slice(0, 2).to_pylist())) or "none"
            remedy = f"no object has a row in {join.uri}, whose keys are {keys} …: name the columns that are equal"
            raise InputError("manifest.join.id_column", join.id_column, remedy)
        if missing:
            logger.warning("%s of %s objects have no row in %s", f"{missing:,}", f"{self.rows:,}", join.uri)

    def _positions(self, first: pa.Table) -> npt.NDArray[np.int64]:
        """``(N,)``: row of this table for each row of the first; -1 where there is none."""
        name = self.join.key_column or self.config.id_column
        usable = first[name].is_valid()
        integers = self.config.integer_ids and name == self.config.id_column
        about = ManifestConfig(self.config.uri, id_column=name, image_column=name, integer_ids=integers)
        keys = exact_ids(first[name].filter(usable), about)
        mine = self.keys
        if keys.type != mine.type:  # text in one table, integers in the other
            keys, mine = keys.cast(pa.string()), mine.cast(pa.string())
        positions = np.full(len(first), -1, np.int64)
        found = pc.index_in(keys, value_set=mine.combine_chunks()).fill_null(-1)
        positions[usable.to_numpy()] = found.to_numpy()
        return positions


def read_second_table(config: ManifestConfig) -> SecondTable | None:
    """Read the second table of a manifest; None where it has none.

    Raises:
        InputError: it cannot be read, lacks a column, or has several rows of one key that differ.
    """
    join = config.join
    if join is None:
        return None
    about = _config_of(config, join)
    try:
        table = pa.concat_tables([_read(uri, about) for uri in manifest_files(join.uri)])
        table = table.append_column(_ROW, pa.array(np.arange(1, len(table) + 1)))
        table, ranks = _chosen(table.filter(table[join.id_column].is_valid()), join)
        keys = exact_ids(table[join.id_column], about)
    except InputError as error:
        if error.field.startswith("manifest.join."):
            raise
        field = {"manifest.uri": "uri", "manifest.id_column": "id_column"}.get(error.field, "columns")
        raise InputError(f"manifest.join.{field}", error.value, error.remedy) from None
    except pa.ArrowInvalid as error:
        raise InputError("manifest.join.uri", join.uri, f"its files have columns of different types: {error}") from None
    image = config.image_column
    if image in join.columns and not is_text(value_type(table.schema.field(image).type)):
        raise InputError("manifest.join.columns", image, "the second table may have URIs of cutouts, not their bytes")
    columns = table.select(list(dict.fromkeys(join.columns)))
    first = _one_row_per_key(columns, keys, ranks, table[_ROW], join)
    return SecondTable(columns.take(first), keys.take(first), config, join)


def with_columns(table: pa.Table, columns: pa.Table) -> pa.Table:
    """The table with further columns, which replace those of the same names."""
    table = table.drop_columns([name for name in columns.column_names if name in table.column_names])
    for field, column in zip(columns.schema, columns.columns, strict=True):
        table = table.append_column(field, column)
    return table


def _config_of(config: ManifestConfig, join: JoinConfig) -> ManifestConfig:
    """How the second table is read: each of its columns for what the manifest uses it for."""
    spelled = [name for name in template_columns(config) if name in join.columns]
    positions = {config.ra_column, config.dec_column} <= set(join.columns)
    others = [name for name in (*join.columns, *join.only) if name not in spelled]
    return ManifestConfig(
        uri=join.uri,
        id_column=join.id_column,
        ra_column=config.ra_column if positions else None,
        dec_column=config.dec_column if positions else None,
        image_column=None if spelled else join.id_column,
        uri_template="".join(f"{{{name}}}" for name in spelled) or None,
        keep_columns=tuple(dict.fromkeys(others)),
    )


def _read(uri: str, config: ManifestConfig) -> pa.Table:
    if not is_parquet(uri):
        return read_table(uri, config)
    with open_parquet_table(uri) as parquet:
        check_columns(parquet.schema.names, config, uri)
        return parquet.read(range(len(parquet.group_rows)), wanted_columns(config))


def _chosen(table: pa.Table, join: JoinConfig) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """The rows that `only` admits, those first whose values are listed first, and the rank of each."""
    ranks = np.zeros(len(table), np.int64)
    for name, values in join.only.items():
        rank = pc.index_in(table[name].cast(pa.string()), value_set=pa.array(values, pa.string()))
        kept = rank.is_valid()
        if not pc.any(kept, min_count=0).as_py():
            there = ", ".join(map(str, table[name].unique().to_pylist()[:_SHOWN]))
            raise InputError(f"manifest.join.only.{name}", list(values), f"no row has one of these; there are: {there}")
        table, ranks = table.filter(kept), ranks[kept.to_numpy()] * len(values) + rank.filter(kept).to_numpy()
    order = np.argsort(ranks, kind="stable")
    return table.take(pa.array(order)), ranks[order]


def _one_row_per_key(
    table: pa.Table, keys: pa.ChunkedArray, ranks: npt.NDArray[np.int64], rows: pa.ChunkedArray, join: JoinConfig
) -> pa.Array:
    """The first row of each key.

    Raises:
        InputError: another row of the key has the same rank and differs.
    """
    codes = keys.combine_chunks().dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    others = np.setdiff1d(np.arange(len(codes)), first)
    originals = first[codes[others]]
    differ = np.zeros(len(others), bool)
    for column in table.columns if len(others) else ():
        values = column.combine_chunks().dictionary_encode("encode").indices.to_numpy()
        differ |= values[others] != values[originals]
    differ &= ranks[others] == ranks[originals]
    if differ.any():
        pairs = list(zip(originals[differ].tolist(), others[differ].tolist(), strict=True))[:_SHOWN]
        shown = ", ".join(f"{keys[a]} (rows {rows[a]} and {rows[b]})" for a, b in pairs)
        remedy = f"{differ.sum()} rows differ from another row of the same key: {shown}; choose one of them by `only`"
        raise InputError("manifest.join.id_column", join.id_column, remedy)
    return pa.array(first)
