"""Two published catalogs -> what changed: a page, `comparison.json`, and gates that fail when it is too much."""

import argparse
import logging
import sys
from typing import Any

from galaxy_batch.compare.compare import CompareConfig, compare_catalogs
from galaxy_batch.compare.page import write_comparison
from galaxy_batch.compare.result import plain
from galaxy_batch.errors import GateError
from galaxy_batch.settings import load_config
from galaxy_batch.storage.files import check_writable, without_secrets
from jobs.command import run_job

logger = logging.getLogger("jobs.compare_catalogs")


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare, write the page, and raise where a gate is crossed."""
    config = load_config(CompareConfig, arguments.config, arguments.set)
    check_writable(config.output_uri)
    found = compare_catalogs(config)
    json_uri, page_uri = write_comparison(found, config.output_uri)
    summary: dict[str, Any] = {
        "old_uri": without_secrets(config.old_uri),
        "new_uri": without_secrets(config.new_uri),
        "matched": found.matching.matched,
        "only_old": found.matching.only_old,
        "only_new": found.matching.only_new,
        "ambiguous": found.matching.ambiguous,
        "flipped": found.flipped,
        "flip_rate": plain(found.flip_rate),
        "flip_interval": plain(found.flip_interval),
        "psi": {name: plain(shift.psi) for name, shift in found.shifts.items()},
        "ks": {name: plain(shift.ks) for name, shift in found.shifts.items()},
        "gates_crossed": [gate.name for gate in found.crossed],
        "report_uri": page_uri,
        "comparison_uri": json_uri,
    }
    logger.info("report: %s", page_uri)
    for gate in found.crossed:
        logger.error("gate crossed: %s", gate)
    if found.crossed:
        raise GateError(f"gates crossed: {', '.join(summary['gates_crossed'])}", summary)
    return summary


if __name__ == "__main__":
    sys.exit(run_job("Compare two published catalogs of the same sky.", compare))
