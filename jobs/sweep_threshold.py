"""The label threshold against galaxies kept and accuracy: a training run at each."""

import argparse
import sys
from typing import Any

from galaxy_batch.config import load_config
from jobs.command import run_job
from train.sweep import SweepConfig, sweep_threshold


def sweep(arguments: argparse.Namespace) -> dict[str, Any]:
    """Read a training config, then train at each threshold."""
    return sweep_threshold(load_config(SweepConfig, arguments.config, arguments.set))


if __name__ == "__main__":
    sys.exit(run_job("Train at several vote thresholds and compare.", sweep))
