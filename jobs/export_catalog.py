"""Write a selection of a published catalog as one FITS, VOTable or CSV file.

Example:
    python -m jobs.export_catalog jobs/configs/export_sdss_dr7.toml --set catalog_uri=CATALOG --set cone.ra=150
"""

import argparse
import sys
from typing import Any

from galaxy_batch.export import export
from galaxy_batch.settings import load_config
from jobs.command import run_job


def export_catalog(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the rows that the config selects."""
    return export.export_catalog(load_config(export.ExportConfig, arguments.config, arguments.set))


if __name__ == "__main__":
    sys.exit(run_job(__doc__, export_catalog))
