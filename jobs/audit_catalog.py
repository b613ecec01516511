"""Estimate the accuracy of a published catalog from the verdicts of people on some of its galaxies.

Writes a page and audit.json: accuracy over all, by class, confidence and flag, with 95% intervals, corrected for how
the galaxies were drawn, and whether the stated confidence holds.

Example:
    python -m jobs.audit_catalog CATALOG --verdicts VERDICTS
"""

import argparse
import sys
from typing import Any

from galaxy_batch.audit.config import AuditConfig
from galaxy_batch.settings import load_config
from jobs.arguments import CommandLine, Shortcut
from jobs.command import run_job


def audit_catalog(arguments: argparse.Namespace) -> dict[str, Any]:
    """Estimate, and write the page and audit.json."""
    config = load_config(AuditConfig, arguments.config, arguments.set)
    from galaxy_batch.audit import audit

    return audit.audit_catalog(config)


_SHORTCUTS = {
    "verdicts": Shortcut(
        ("FOLDER",), ("verdicts_uri",), "imported verdicts; default: `review/verdicts/verdicts` beside the catalog"
    ),
    "queue": Shortcut(("NAME",), ("queue",), "queue that counts, where the verdicts are of several"),
    "to": Shortcut(("FOLDER",), ("report_uri",), "folder of the page; default: `audit/<verdicts>` beside the catalog"),
    "min-accuracy": Shortcut(("SHARE",), ("min_accuracy",), "exit with 3 if the accuracy is lower than this"),
}

if __name__ == "__main__":
    line = CommandLine(__doc__, AuditConfig, places={"catalog_uri": "CATALOG"}, shortcuts=_SHORTCUTS)
    sys.exit(run_job(line, audit_catalog))
