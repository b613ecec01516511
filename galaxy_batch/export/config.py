"""Settings of an export."""

from dataclasses import dataclass
from typing import Annotated

from galaxy_batch.settings import Range, Uri
from galaxy_batch.sky.cone import Cone

__all__ = ["ExportConfig"]


@dataclass(frozen=True)
class ExportConfig:
    """Settings of an export: rows and columns of a catalog, and the output file."""

    catalog_uri: Annotated[str, Uri]
    """Folder of a published catalog, which contains `manifest.json`."""
    output_uri: Annotated[str, Uri]
    """Output file: `.fits`, `.vot` (VOTable), `.csv` or `.parquet`. An existing file is replaced."""
    cone: Cone | None = None
    """Export only rows in this cone. When not given, all rows, including those without a position."""
    where: str | None = None
    """Export only rows for which this SQL condition is true, e.g. `confidence > 0.9 and predicted_class = 'smooth'`."""
    columns: tuple[str, ...] = ()
    """Columns to export, in this order. When not given, all columns."""
    max_rows: Annotated[int, Range(1, 50_000_000)] = 1_000_000
    """Largest number of rows, all held in memory. If exceeded, nothing is written and the exit code is 2."""
    sample: Annotated[int, Range(1)] | None = None
    """Of the rows that `cone` and `where` select, export this many, drawn by a hash of the id: the same objects every
    time, wherever they are in the catalog. When not given, all of them."""
    order_by: str | None = None
    """Column to sort the rows by; `confidence desc` puts the largest value first. Null comes last; equal values, and
    all rows when not given, are in the order of the sky."""
    limit: Annotated[int, Range(1)] | None = None
    """Largest number of rows to export: the first ones, after all of the above. When not given, all of them."""
    verdicts_uri: Annotated[str, Uri] | None = None
    """Folder of `jobs.import_verdicts`, or its `reviewed.parquet`: adds the columns `reviewed_class` and `reviewed_by`,
    null where nobody gave a verdict, which `where`, `order_by` and `columns` may name."""
