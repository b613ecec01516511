"""A published catalog -> its page, made again from the catalog's files."""

import argparse
import posixpath
import sys
from dataclasses import dataclass, field
from typing import Annotated, Any

from galaxy_batch.config import ManifestConfig, ReportConfig
from galaxy_batch.release_page.page import write_release_page
from galaxy_batch.settings import Uri, load_config
from galaxy_batch.storage.files import join, without_secrets
from jobs.command import run_job


@dataclass(frozen=True)
class ReleaseReportConfig:
    """Which catalog, and what its page shows."""

    catalog_uri: Annotated[str, Uri]
    """The catalog's folder, with `manifest.json` in it."""
    report_uri: Annotated[str, Uri] | None = None
    """Folder of the page; `report` beside the catalog when not given."""
    manifest: ManifestConfig | None = None
    """Where the cutouts are; as the catalog says, when not given. Give it where they have moved, or are signed."""
    report: ReportConfig = field(default_factory=ReportConfig)
    """Contact sheets."""


def release_report(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make the page."""
    config = load_config(ReleaseReportConfig, arguments.config, arguments.set)
    folder = config.report_uri or join(posixpath.dirname(config.catalog_uri.rstrip("/")), "report")
    uri = write_release_page(config.catalog_uri, folder, config.report, config.manifest)
    return {"catalog_uri": without_secrets(config.catalog_uri), "report_uri": without_secrets(uri)}


if __name__ == "__main__":
    sys.exit(run_job("Make the page of a published catalog again.", release_report))
