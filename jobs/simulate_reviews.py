"""Simulate reviewers on galaxies with votes: which galaxies to look at first, and how much each verdict is worth.

Example:
    python -m jobs.simulate_reviews jobs/configs/simulate_reviews.toml --set galaxies.uri=gz2/training_solutions.csv
"""

import argparse
import sys
from typing import Any

from galaxy_batch.settings import load_config
from jobs.arguments import CommandLine
from jobs.command import run_job
from train.config import SimulationConfig


def simulate(arguments: argparse.Namespace) -> dict[str, Any]:
    """Simulate each strategy with each seed."""
    config = load_config(SimulationConfig, arguments.config, arguments.set)
    from train.review_simulation import simulate_reviews

    return simulate_reviews(config)


if __name__ == "__main__":
    sys.exit(run_job(CommandLine(__doc__, SimulationConfig), simulate))
