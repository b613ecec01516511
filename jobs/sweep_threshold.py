"""Train at several vote thresholds, compare the models on one common test set and recommend a threshold.

Example:
    python -m jobs.sweep_threshold jobs/configs/train_gz2.toml --set thresholds=[0.5,0.6,0.8] --set output_uri=sweep
"""

import argparse
import sys
from typing import Any

from galaxy_batch.config import RuntimeConfig
from galaxy_batch.settings import load_config
from jobs.arguments import CommandLine
from jobs.command import ray_session, run_job
from train.config import SweepConfig


def sweep(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train at each threshold; starts Ray only for more than one worker."""
    config = load_config(SweepConfig, arguments.config, arguments.set)
    from train.sweep import sweep_threshold

    if config.workers == 1:
        return sweep_threshold(config)
    with ray_session(RuntimeConfig()):
        return sweep_threshold(config)


if __name__ == "__main__":
    sys.exit(run_job(CommandLine(__doc__, SweepConfig), sweep))
