"""Manifest + checkpoint -> published catalog. Run it again to resume; try it first with `--dry-run`."""

import argparse
import os
import sys
from typing import Any

from galaxy_batch.config import CatalogConfig
from galaxy_batch.dry_run import dry_run_release
from galaxy_batch.pipeline import classify_release
from galaxy_batch.plan import plan_release
from galaxy_batch.settings import load_config
from jobs.command import ray_session, run_job


def build_catalog(arguments: argparse.Namespace) -> dict[str, Any]:
    """Check everything, then classify the release; a dry run classifies a sample, and writes nothing."""
    plan = plan_release(load_config(CatalogConfig, arguments.config, arguments.set))
    if arguments.dry_run:
        return dry_run_release(plan, on_cluster=bool(os.environ.get("RAY_ADDRESS")))
    if plan.published is not None:
        return classify_release(plan)
    with ray_session(plan.config.runtime):
        return classify_release(plan)


if __name__ == "__main__":
    flags = {"dry-run": "check all that a run needs, classify a sample, estimate the time; nothing is written"}
    sys.exit(run_job("Classify a survey's cutouts and publish a catalog.", build_catalog, flags=flags))
