"""Pack many small cutout files into few large Parquet shards.

Run the same command again to resume after an interruption: finished shards are kept.

Example:
    python -m jobs.pack_cutouts jobs/configs/pack_sdss_dr7.toml --set manifest.uri=objects.csv --set output_uri=packed
"""

import argparse
import sys
from typing import Any

from galaxy_batch.packing.config import PackConfig
from galaxy_batch.settings import load_config
from jobs.arguments import CommandLine
from jobs.command import ray_session, run_job


def pack_cutouts(arguments: argparse.Namespace) -> dict[str, Any]:
    """Check all inputs, then write the missing shards."""
    config = load_config(PackConfig, arguments.config, arguments.set)
    from galaxy_batch.packing import pack as packing
    from galaxy_batch.packing.plan import plan_pack

    plan = plan_pack(config)
    if plan.packed is not None:
        return packing.pack_cutouts(plan)
    with ray_session(plan.config.runtime):
        return packing.pack_cutouts(plan)


if __name__ == "__main__":
    sys.exit(run_job(CommandLine(__doc__, PackConfig), pack_cutouts))
