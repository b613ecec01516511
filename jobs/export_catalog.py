"""Write a selection of a published catalog as one FITS, VOTable, CSV or Parquet file.

With several conditions, the order is: where and cone, then sample, then order, then limit.

Example:
    python -m jobs.export_catalog CATALOG --to bright.fits --cone 132.85 11.81 0.5 --where "confidence > 0.9"
"""

import argparse
import sys
from typing import Any

from galaxy_batch.export.config import ExportConfig
from galaxy_batch.settings import load_config
from jobs.arguments import CommandLine, Shortcut
from jobs.command import run_job


def export_catalog(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the rows that the settings select."""
    config = load_config(ExportConfig, arguments.config, arguments.set)
    from galaxy_batch.export import export

    return export.export_catalog(config)


_SHORTCUTS = {
    "to": Shortcut(("FILE",), ("output_uri",), "output file: .fits, .vot (VOTable), .csv or .parquet"),
    "where": Shortcut(("SQL",), ("where",), "only rows for which this SQL condition is true"),
    "cone": Shortcut(
        ("RA", "DEC", "R"),
        ("cone.ra", "cone.dec", "cone.radius_deg"),
        "only rows within R of a position, all in degrees, ICRS",
    ),
    "sample": Shortcut(("N",), ("sample",), "N of these rows, drawn at random by id: the same ones every time"),
    "order-by": Shortcut(("COLUMN", "[DESC]"), ("order_by",), "sort by a column; with DESC, largest first"),
    "limit": Shortcut(("N",), ("limit",), "the first N rows, after all of the above"),
    "verdicts": Shortcut(("FOLDER",), ("verdicts_uri",), "verdicts of jobs.import_verdicts, as two more columns"),
    "columns": Shortcut(("A,B,…",), ("columns",), "columns to write, in this order; default: all"),
}

if __name__ == "__main__":
    line = CommandLine(__doc__, ExportConfig, places={"catalog_uri": "CATALOG"}, shortcuts=_SHORTCUTS)
    sys.exit(run_job(line, export_catalog))
