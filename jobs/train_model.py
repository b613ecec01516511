"""Label table + cutouts -> checkpoint and report."""

import argparse
import sys
from typing import Any

from galaxy_batch.config import RuntimeConfig
from galaxy_batch.settings import load_config
from jobs.command import ray_session, run_job
from train.config import TrainConfig
from train.run import train_model


def train(arguments: argparse.Namespace) -> dict[str, Any]:
    """Read the config, then train; more than one worker needs Ray."""
    config = load_config(TrainConfig, arguments.config, arguments.set)
    if config.workers == 1:
        return train_model(config)
    with ray_session(RuntimeConfig()):
        return train_model(config)


if __name__ == "__main__":
    sys.exit(run_job("Train a morphology model on volunteers' votes.", train))
