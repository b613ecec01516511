"""Classify the cutouts of a survey and publish the catalog.

Run the same command again to resume after an interruption: finished chunks are kept.

Example:
    python -m jobs.build_catalog jobs/configs/sdss_dr7.toml --set manifest.uri=objects.csv --dry-run
"""

import argparse
import os
import sys
from typing import Any

from galaxy_batch.config import CatalogConfig
from galaxy_batch.settings import load_config
from jobs.arguments import CommandLine
from jobs.command import interruptible, ray_session, run_job


def build_catalog(arguments: argparse.Namespace) -> dict[str, Any]:
    """As `build_release`, with the settings of the command line."""
    return build_release(load_config(CatalogConfig, arguments.config, arguments.set), arguments.dry_run)


def build_release(config: CatalogConfig, dry_run: bool) -> dict[str, Any]:
    """Check all inputs, then classify the release, or only a sample of it in a dry run."""
    from galaxy_batch.plan import plan_release

    plan = plan_release(config)
    if dry_run:
        from galaxy_batch.dry_run import dry_run_release

        return dry_run_release(plan, on_cluster=bool(os.environ.get("RAY_ADDRESS")))
    from galaxy_batch.local_run import is_local
    from galaxy_batch.pipeline import classify_release, remove_sorted_runs

    if plan.published is not None:
        return classify_release(plan)
    on_ray = bool(os.environ.get("RAY_ADDRESS")) or not is_local(plan)
    try:
        with ray_session(plan.config.runtime) if on_ray else interruptible():
            return classify_release(plan, on_ray)
    except BaseException:
        remove_sorted_runs(plan)  # only now does no task write there any more
        raise


if __name__ == "__main__":
    flags = {"dry-run": "check the inputs, classify a sample and estimate the run time, without writing anything"}
    sys.exit(run_job(CommandLine(__doc__, CatalogConfig, flags=flags), build_catalog))
