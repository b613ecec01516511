"""Verdicts of people as columns beside those of a catalog."""

import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.errors import InputError
from galaxy_batch.reviewed_objects import REVIEWED_COLUMNS, read_reviewed

__all__ = ["ReviewedColumns"]


class ReviewedColumns:
    """The columns `reviewed_class` and `reviewed_by` of the objects that people gave verdicts on; all are in memory.

    Args:
        uri: folder of verdict tables, or a `reviewed.parquet`.
        schema: columns of the catalog.

    Raises:
        InputError: there are no such verdicts, their ids are of another type, or the catalog has such a column.
    """

    def __init__(self, uri: str, schema: pa.Schema) -> None:
        self._rows = read_reviewed(uri).rows
        own, theirs = schema.field("object_id").type, self._rows.schema.field("object_id").type
        if own != theirs:
            raise InputError("verdicts_uri", uri, f"its object_id is {theirs}, and that of the catalog {own}")
        kept = [name for name in REVIEWED_COLUMNS if name in schema.names]
        if kept:
            raise InputError("verdicts_uri", uri, f"the catalog has a column {kept[0]} of its own")

    def added_to(self, schema: pa.Schema) -> pa.Schema:
        """The schema with the two columns at its end."""
        for name, description in REVIEWED_COLUMNS.items():
            schema = schema.append(pa.field(name, pa.string(), metadata={"description": description}))
        return schema

    def joined_to(self, rows: pa.Table) -> pa.Table:
        """Rows of the catalog with the two columns, null where nobody gave a verdict.

        Reads `object_id`.
        """
        places = pc.index_in(rows["object_id"], value_set=self._rows["object_id"].combine_chunks())
        for name in REVIEWED_COLUMNS:
            rows = rows.append_column(name, self._rows[name].take(places))
        return rows
