"""Selection of an export's rows from a stream of matching ones: a sample, an order, a limit; of bounded memory."""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.errors import InputError
from galaxy_batch.export.config import ExportConfig

__all__ = ["Selection"]

_PLACE, _HASH = "_place", "_sample_hash"
_HASH_KEY = "sample 000000000"  # 16 letters; changing it changes everybody's samples
_ASCENDING, _DESCENDING = "ascending", "descending"

_Order = Sequence[tuple[str, str]]


class Selection:
    """The rows that an export takes of those that match.

    Args:
        config: `sample`, `order_by`, `limit` and `max_rows`.
        schema: columns of the catalog.

    Raises:
        InputError: `order_by` is not a column that has an order.
    """

    def __init__(self, config: ExportConfig, schema: pa.Schema) -> None:
        self._config = config
        self._order = [] if config.order_by is None else [_order(config.order_by, schema)]
        self.columns = (*(name for name, _ in self._order), *(["object_id"] if config.sample else []))
        """Columns that decide."""

    def of(self, schema: pa.Schema, tables: Iterable[pa.Table]) -> pa.Table:
        """The selected rows.

        Args:
            schema: columns of the tables.
            tables: matching rows, in the order of the sky.

        Raises:
            InputError: more than `max_rows` rows would be held in memory.
        """
        most = self._config.max_rows
        stream = _with_places(schema, tables)
        if self._config.sample is not None:
            hashed = (rows.append_column(_HASH, _hashes(rows["object_id"])) for rows in stream)
            drawn = _first(hashed, min(self._config.sample, most + 1), [(_HASH, _ASCENDING)])
            self._check(drawn)
            stream = iter([drawn.sort_by(_PLACE)])
        rows = _first(stream, min(self._config.limit or most + 1, most + 1), self._order)
        self._check(rows)
        return rows.select(schema.names)

    def _check(self, rows: pa.Table) -> None:
        if len(rows) > self._config.max_rows:
            remedy = "more rows match: select fewer by [cone], where or limit, or raise max_rows if they fit in memory"
            raise InputError("max_rows", self._config.max_rows, remedy)


def _order(text: str, schema: pa.Schema) -> tuple[str, str]:
    """Column and direction."""
    name, _, word = text.rpartition(" ")
    direction = {"asc": _ASCENDING, "desc": _DESCENDING}.get(word.lower())
    name, direction = (text, _ASCENDING) if text in schema.names or direction is None else (name.strip(), direction)
    if name not in schema.names:
        columns = ", ".join(schema.names)
        raise InputError("order_by", text, f"write a column, and DESC for largest first; the columns are {columns}")
    if pa.types.is_nested(schema.field(name).type):
        raise InputError("order_by", text, f"values of type {schema.field(name).type} have no order")
    return name, direction


def _with_places(schema: pa.Schema, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The tables with the number of each row, beginning with an empty one."""
    start = 0
    for table in itertools.chain([schema.empty_table()], tables):
        yield table.append_column(_PLACE, pa.array(np.arange(start, start + len(table), dtype=np.int64)))
        start += len(table)


def _hashes(ids: pa.ChunkedArray) -> pa.Array:
    texts = ids.cast(pa.string()).to_numpy().astype(object)
    return pa.array(pd.util.hash_array(texts, hash_key=_HASH_KEY, categorize=False), pa.uint64())


def _first(tables: Iterable[pa.Table], number: int, order: _Order) -> pa.Table:
    """The first rows in an order, or as they come; holds at most twice their number and one table."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(map(len, held)) >= (2 * number if order else number):
            held = [_sorted(held, order).slice(0, number)]
            if not order:
                break
    return _sorted(held, order).slice(0, number)


def _sorted(tables: list[pa.Table], order: _Order) -> pa.Table:
    rows = pa.concat_tables(tables)
    return rows.take(pc.sort_indices(rows, sort_keys=[*order, (_PLACE, _ASCENDING)])) if order else rows
