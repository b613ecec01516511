"""Write the HTML page of a published catalog again, from the catalog alone.

Example:
    python -m jobs.release_report catalogs/release=dr7/model=CHECKPOINT/catalog --set report.cutouts=12
"""

import argparse
import sys
from dataclasses import dataclass, field
from typing import Annotated, Any

from galaxy_batch.config import ManifestConfig, ReportConfig
from galaxy_batch.settings import Uri, load_config
from jobs.arguments import CommandLine, Shortcut
from jobs.command import run_job


@dataclass(frozen=True)
class ReleaseReportConfig:
    """Settings of the page of a catalog."""

    catalog_uri: Annotated[str, Uri]
    """Folder of the catalog, with `manifest.json` in it."""
    report_uri: Annotated[str, Uri] | None = None
    """Folder of the page. When not given, `report` beside the catalog."""
    manifest: ManifestConfig | None = None
    """Location of the cutouts. When not given, as in the catalog; needed if they have moved or have signed URIs."""
    report: ReportConfig = field(default_factory=ReportConfig)


def release_report(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the page."""
    config = load_config(ReleaseReportConfig, arguments.config, arguments.set)
    from galaxy_batch.release_page.page import write_release_page
    from galaxy_batch.storage.files import beside, without_secrets

    folder = config.report_uri or beside(config.catalog_uri, "report")
    uri = write_release_page(config.catalog_uri, folder, config.report, config.manifest)
    return {"catalog_uri": without_secrets(config.catalog_uri), "report_uri": without_secrets(uri)}


if __name__ == "__main__":
    shortcuts = {
        "to": Shortcut(("FOLDER",), ("report_uri",), "folder of the page; default: `report` beside the catalog")
    }
    places = {"catalog_uri": "CATALOG"}
    line = CommandLine(__doc__, ReleaseReportConfig, places=places, shortcuts=shortcuts)
    sys.exit(run_job(line, release_report))
