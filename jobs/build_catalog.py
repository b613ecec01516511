"""Manifest + checkpoint -> published catalog. Run it again to resume."""

import argparse
import sys
from typing import Any

from galaxy_batch.config import CatalogConfig, load_config
from galaxy_batch.pipeline import classify_release, plan_release
from jobs.command import ray_session, run_job


def build_catalog(arguments: argparse.Namespace) -> dict[str, Any]:
    """Check everything, then classify the release."""
    plan = plan_release(load_config(CatalogConfig, arguments.config, arguments.set))
    if plan.published is not None:
        return classify_release(plan)
    with ray_session(plan.config.runtime):
        return classify_release(plan)


if __name__ == "__main__":
    sys.exit(run_job("Classify a survey's cutouts and publish a catalog.", build_catalog))
