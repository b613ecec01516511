"""An SQL condition that chooses rows, as DuckDB understands it.

DuckDB gets rows that were read already, and tells which of them to keep; it opens no file, writes none, and no value
of a row that is kept has passed through it. A condition sees one row: what needs others (a subquery, an aggregate, a
window) is refused, because the rows come piece by piece.
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from galaxy_batch.errors import InputError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

__all__ = ["Condition"]

_ROW = "_row_of_the_piece"
_CLOSED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}
_EXAMPLE = "write one condition on a row, such as confidence > 0.9 and predicted_class = 'smooth'"


class Condition:
    """An SQL expression that is true for the rows to keep.

    Args:
        expression: what stands after WHERE, e.g. `confidence > 0.9 and predicted_class = 'smooth'`.
        schema: the columns that it may use.

    Raises:
        InputError: DuckDB is not installed, or this is not one expression that is true or false for a row.
    """

    def __init__(self, expression: str, schema: pa.Schema) -> None:
        try:
            import duckdb  # noqa: PLC0415 - an extra: only who uses it needs it
        except ImportError:
            raise InputError("where", expression, "needs DuckDB: `uv sync --extra query`") from None
        self.expression = expression
        self._failures = duckdb.Error
        self._connection: DuckDBPyConnection = duckdb.connect(":memory:", config=_CLOSED)
        self._connection.execute("SET lock_configuration = true").fetchall()
        try:
            self._condition = duckdb.SQLExpression(expression)
            nodes = list(_nodes(self._parsed()))
            if {"SUBQUERY", "STAR"} & {node.get("class") for node in nodes}:
                raise InputError("where", expression, f"subqueries and * are not possible here; {_EXAMPLE}")
            types = self._over(schema.empty_table()).select(self._condition).types
            self._over(schema.empty_table()).filter(self._condition).fetchall()
        except duckdb.Error as error:
            raise self._refused(error) from None
        if [str(kind) for kind in types] != ["BOOLEAN"]:
            raise InputError("where", expression, f"is not true or false, but {types[0]}; {_EXAMPLE}")
        used = {part.lower() for node in nodes for part in node.get("column_names", [])}
        self.columns = tuple(name for name in schema.names if name.lower() in used)
        """The columns that the expression looks at."""

    def kept(self, rows: pa.Table) -> pa.Table:
        """The rows for which the expression is true, in their order.

        Raises:
            InputError: the expression fails on a value, for instance on a text that is no number.
        """
        numbers = pa.array(np.arange(len(rows), dtype=np.int64))
        piece = rows.select(list(self.columns)).append_column(_ROW, numbers)
        try:
            found = self._over(piece).filter(self._condition).select(_ROW).fetchnumpy()[_ROW]
        except self._failures as error:
            raise self._refused(error) from None
        return rows.take(pa.array(np.sort(found)))

    def _over(self, rows: pa.Table) -> "DuckDBPyRelation":
        return self._connection.from_arrow(rows.replace_schema_metadata(None))

    def _parsed(self) -> Any:
        """DuckDB's own tree of the expression; that it is one, and no more than that, is known by now."""
        statement = f"SELECT {self.expression}\n"
        rows = self._connection.execute("SELECT json_serialize_sql(?)", [statement]).fetchall()
        parsed = json.loads(rows[0][0])
        if parsed["error"]:
            raise InputError("where", self.expression, f"{parsed.get('error_message')}; {_EXAMPLE}")
        return parsed

    def _refused(self, error: Exception) -> InputError:
        said = [line.strip() for line in str(error).partition("LINE ")[0].splitlines() if line.strip()]
        return InputError("where", self.expression, f"{'; '.join(said[:2])}; {_EXAMPLE}")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object in a tree of JSON."""
    if isinstance(tree, dict):
        yield tree
    for branch in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(branch)
