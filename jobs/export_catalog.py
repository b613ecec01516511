"""A cone or an SQL condition -> those rows of a published catalog, as FITS, VOTable or CSV."""

import argparse
import sys
from typing import Any

from galaxy_batch.export import export
from galaxy_batch.settings import load_config
from jobs.command import run_job


def export_catalog(arguments: argparse.Namespace) -> dict[str, Any]:
    """Check the config, then write the file."""
    return export.export_catalog(load_config(export.ExportConfig, arguments.config, arguments.set))


if __name__ == "__main__":
    sys.exit(run_job("Write a piece of a catalog as FITS, VOTable or CSV.", export_catalog))
