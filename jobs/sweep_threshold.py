"""The label threshold against galaxies kept and accuracy: a training run at each."""

import argparse
import sys
from typing import Any

from galaxy_batch.config import RuntimeConfig
from galaxy_batch.settings import load_config
from jobs.command import ray_session, run_job
from train.sweep import SweepConfig, sweep_threshold


def sweep(arguments: argparse.Namespace) -> dict[str, Any]:
    """Read a training config, then train at each threshold; more than one worker needs Ray."""
    config = load_config(SweepConfig, arguments.config, arguments.set)
    if config.workers == 1:
        return sweep_threshold(config)
    with ray_session(RuntimeConfig()):
        return sweep_threshold(config)


if __name__ == "__main__":
    sys.exit(run_job("Train at several vote thresholds and compare.", sweep))
