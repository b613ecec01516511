"""Train a morphology model on volunteers' votes and write its checkpoint and report.

Example:
    python -m jobs.train_model jobs/configs/train_gz2.toml --set galaxies.uri=votes.csv --set output_uri=runs/gz2
"""

import argparse
import sys
from typing import Any

from galaxy_batch.config import RuntimeConfig
from galaxy_batch.settings import load_config
from jobs.arguments import CommandLine
from jobs.command import ray_session, run_job
from train.config import TrainConfig


def train(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train as the config says; starts Ray only for more than one worker."""
    config = load_config(TrainConfig, arguments.config, arguments.set)
    from train.run import train_model

    if config.workers == 1:
        return train_model(config)
    with ray_session(RuntimeConfig()):
        return train_model(config)


if __name__ == "__main__":
    sys.exit(run_job(CommandLine(__doc__, TrainConfig), train))
