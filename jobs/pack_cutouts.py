"""Millions of small cutout files -> Parquet shards with the bytes inside. Run it again to resume."""

import argparse
import sys
from typing import Any

from galaxy_batch.packing import pack as packing
from galaxy_batch.packing.config import PackConfig
from galaxy_batch.packing.plan import plan_pack
from galaxy_batch.settings import load_config
from jobs.command import ray_session, run_job


def pack_cutouts(arguments: argparse.Namespace) -> dict[str, Any]:
    """Check everything, then pack."""
    plan = plan_pack(load_config(PackConfig, arguments.config, arguments.set))
    if plan.packed is not None:
        return packing.pack_cutouts(plan)
    with ray_session(plan.config.runtime):
        return packing.pack_cutouts(plan)


if __name__ == "__main__":
    sys.exit(run_job("Pack a survey's cutouts into Parquet shards.", pack_cutouts))
