"""A catalog URI -> every promise checked, from the files alone."""

import argparse
import logging
import sys
from typing import Any

from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.errors import GateError
from galaxy_batch.settings import resolve_uri
from galaxy_batch.storage.files import without_secrets
from jobs.command import run_job

logger = logging.getLogger("jobs.verify_catalog")


def verify(arguments: argparse.Namespace) -> dict[str, Any]:
    """Check a catalog; raise where it breaks a promise."""
    catalog_uri = resolve_uri(arguments.catalog_uri)
    shown = without_secrets(catalog_uri)
    problems = verify_catalog(catalog_uri)
    summary = {"catalog_uri": shown, "problems": problems}
    for problem in problems:
        logger.error("%s", problem)
    if problems:
        raise GateError(f"{shown} does not verify: {len(problems)} problems", summary)
    logger.info("%s: every promise holds", shown)
    return summary


if __name__ == "__main__":
    operands = {"catalog_uri": "the catalog's folder, with manifest.json in it, at any URI"}
    sys.exit(run_job("Check a published catalog against its promises.", verify, operands=operands))
