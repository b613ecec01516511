"""Selection of rows by an SQL condition, evaluated by DuckDB.

DuckDB receives rows from memory and returns the numbers of those to keep; it neither opens files nor returns values. A
condition may use one row only: subqueries, aggregates and windows are refused, because rows are read file by file.
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

_ROW = "_row_number"
_CLOSED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}
_EXAMPLE = "write one condition on a row, such as confidence > 0.9 and predicted_class = 'smooth'"


class Condition:
    """An SQL condition on a row.

    Args:
        expression: content of a WHERE clause, e.g. `confidence > 0.9 and predicted_class = 'smooth'`.
        schema: available columns.

    Raises:
        InputError: DuckDB is not installed, or the expression is not a single boolean condition on a row.
    """

    def __init__(self, expression: str, schema: pa.Schema) -> None:
        try:
            import duckdb  # noqa: PLC0415 - optional dependency
        except ImportError:
            raise InputError("where", expression, "needs DuckDB: `uv sync --extra query`") from None
        self.expression = expression
        self._errors = duckdb.Error
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
            raise InputError("where", expression, f"is of type {types[0]}, not boolean; {_EXAMPLE}")
        used = {part.lower() for node in nodes for part in node.get("column_names", [])}
        self.columns = tuple(name for name in schema.names if name.lower() in used)
        """Columns used by the expression."""

    def filter(self, rows: pa.Table) -> pa.Table:
        """The rows for which the condition is true, in their order.

        Raises:
            InputError: the expression fails on a value, for instance a text that is not a number.
        """
        numbers = pa.array(np.arange(len(rows), dtype=np.int64))
        columns = rows.select(list(self.columns)).append_column(_ROW, numbers)
        try:
            matching = self._over(columns).filter(self._condition).select(_ROW).fetchnumpy()[_ROW]
        except self._errors as error:
            raise self._refused(error) from None
        return rows.take(pa.array(np.sort(matching)))

    def _over(self, rows: pa.Table) -> "DuckDBPyRelation":
        return self._connection.from_arrow(rows.replace_schema_metadata(None))

    def _parsed(self) -> Any:
        """DuckDB's syntax tree of the expression, already known to be a single one."""
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
    """All objects in a JSON tree."""
    if isinstance(tree, dict):
        yield tree
    for branch in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(branch)
