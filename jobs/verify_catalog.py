"""Verify a published catalog from its files alone: checksums, counts, ids, positions, flags and HATS metadata.

Example:
    python -m jobs.verify_catalog demo_output/catalogs/release=demo/model=CHECKPOINT/catalog
"""

import argparse
import logging
import sys
from typing import Any

from galaxy_batch.errors import GateError, without_secrets
from galaxy_batch.settings import resolve_uri
from jobs.arguments import CommandLine
from jobs.command import run_job

logger = logging.getLogger("jobs.verify_catalog")


def verify(arguments: argparse.Namespace) -> dict[str, Any]:
    """Verify the catalog.

    Raises:
        GateError: the catalog has problems.
    """
    from galaxy_batch.catalog.verify import verify_catalog

    catalog_uri = resolve_uri(arguments.catalog_uri)
    shown = without_secrets(catalog_uri)
    problems = verify_catalog(catalog_uri)
    summary = {"catalog_uri": shown, "problems": problems}
    for problem in problems:
        logger.error("%s", problem)
    if problems:
        raise GateError(f"{shown} does not verify: {len(problems)} problems", summary)
    logger.info("%s: no problems", shown)
    return summary


if __name__ == "__main__":
    positionals = {"catalog_uri": "folder of the catalog, with manifest.json in it; a path or any fsspec URI"}
    sys.exit(run_job(CommandLine(__doc__, positionals=positionals), verify))
