"""Label table + cutouts -> checkpoint and report."""

import argparse
import sys
from typing import Any

from galaxy_batch.config import load_config
from jobs.command import run_job
from train.recipe import TrainConfig
from train.study import train_model


def train(arguments: argparse.Namespace) -> dict[str, Any]:
    """Read the config, then train."""
    return train_model(load_config(TrainConfig, arguments.config, arguments.set))


if __name__ == "__main__":
    sys.exit(run_job("Train a morphology model on volunteers' votes.", train))
