"""Compare two published catalogs of the same sky, write a page and comparison.json, and check the gates.

Or all catalogs of a folder of releases, as a series: a page and series.json.

Example:
    python -m jobs.compare_catalogs release=dr7/model=M/catalog release=dr8/model=M/catalog --to changes
    python -m jobs.compare_catalogs catalogs --to changes
"""

import argparse
import logging
import sys
from typing import Any

from galaxy_batch.compare.config import CompareConfig
from galaxy_batch.errors import GateError
from galaxy_batch.settings import load_config
from jobs.arguments import CommandLine, Shortcut
from jobs.command import run_job

logger = logging.getLogger("jobs.compare_catalogs")


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Compare the catalogs and write the page.

    Raises:
        GateError: a gate was crossed.
    """
    config = load_config(CompareConfig, arguments.config, arguments.set)
    return _two_catalogs(config) if config.series_uri is None else _series(config)


def _two_catalogs(config: CompareConfig) -> dict[str, Any]:
    from galaxy_batch.compare.compare import compare_catalogs
    from galaxy_batch.compare.page import write_comparison
    from galaxy_batch.compare.result import plain
    from galaxy_batch.storage.files import check_writable, without_secrets

    check_writable(config.output_uri)
    comparison = compare_catalogs(config)
    json_uri, page_uri = write_comparison(comparison, config)
    summary: dict[str, Any] = {
        "old_uri": without_secrets(config.old_uri),
        "new_uri": without_secrets(config.new_uri),
        "matched": comparison.matching.matched,
        "only_old": comparison.matching.only_old,
        "only_new": comparison.matching.only_new,
        "ambiguous": comparison.matching.ambiguous,
        "flipped": comparison.flipped,
        "flip_rate": plain(comparison.flip_rate),
        "flip_interval": plain(comparison.flip_interval),
        "psi": {name: plain(shift.psi) for name, shift in comparison.shifts.items()},
        "ks": {name: plain(shift.ks) for name, shift in comparison.shifts.items()},
        "gates_crossed": [gate.name for gate in comparison.crossed],
        "report_uri": page_uri,
        "comparison_uri": json_uri,
    }
    logger.info("report: %s", page_uri)
    for gate in comparison.crossed:
        logger.error("gate crossed: %s", gate)
    if comparison.crossed:
        raise GateError(f"gates crossed: {', '.join(summary['gates_crossed'])}", summary)
    return summary


def _series(config: CompareConfig) -> dict[str, Any]:
    from galaxy_batch.compare.series import measure_series
    from galaxy_batch.compare.series_page import write_series
    from galaxy_batch.storage.files import check_writable

    check_writable(config.output_uri)
    series = measure_series(config)
    json_uri, page_uri = write_series(series, config.output_uri)
    last = series.last_step
    crossed = list(last.gates_crossed) if last else []
    summary: dict[str, Any] = {
        "series_uri": series.series_uri,
        "releases": len(series.releases),
        "models": len(series.models),
        "catalogs": len(series.catalogs),
        "skipped": len(series.skipped),
        "not_compared": len(series.not_compared),
        "newest_uri": series.catalogs[series.newest].catalog_uri,
        "gates_crossed": crossed,
        "report_uri": page_uri,
        "comparison_uri": json_uri,
    }
    logger.info("report: %s", page_uri)
    if series.unjudged:
        raise GateError(f"the newest catalog cannot be compared: {series.unjudged}", summary)
    if crossed:
        raise GateError(f"gates crossed by the newest catalog: {', '.join(crossed)}", summary)
    return summary


if __name__ == "__main__":
    shortcuts = {
        "to": Shortcut(("FOLDER",), ("output_uri",), "folder that gets index.html and comparison.json, or series.json")
    }
    places = {"old_uri": "OLD", "new_uri": "NEW"}
    line = CommandLine(
        __doc__, CompareConfig, places=places, other_places={"series_uri": "CATALOGS"}, shortcuts=shortcuts
    )
    sys.exit(run_job(line, compare))
