"""What all jobs share: arguments, logging, Ray, the summary line, exit codes."""

import argparse
import contextlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import ray
from ray.util.annotations import RayDeprecationWarning

from galaxy_batch.config import RuntimeConfig
from galaxy_batch.errors import GateError, InputError
from galaxy_batch.runtime.progress import CLEAR_LINE

__all__ = ["ray_session", "run_job"]

logger = logging.getLogger("jobs")


def run_job(
    description: str,
    job: Callable[[argparse.Namespace], dict[str, Any]],
    takes_config: bool = True,
    options: Mapping[str, str] = MappingProxyType({}),
    operands: Mapping[str, str] = MappingProxyType({}),
    flags: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Parse the command line, run the job, print its summary as the last line of stdout, give the exit code.

    Args:
        description: the job in a sentence, for `--help`.
        job: gets `config` (a path) and `set` (a list of `key=value`), gives the summary.
        takes_config: whether the first argument is a TOML config.
        options: further options that only this job has, and their help: `address` is given as `--address`.
        flags: options without a value, and their help: `dry-run` is given as `--dry-run`.
        operands: what the job takes in place of a config and `--set`, in order, and their help.

    Returns:
        0 done; 2 a bad config or command; 3 a gate failed; anything else raises, which exits with 1.
    """
    parser = argparse.ArgumentParser(description=description)
    for name, meaning in operands.items():
        parser.add_argument(name, metavar=name.upper(), help=meaning)
    if takes_config and not operands:
        parser.add_argument("config", help="TOML config; see jobs/configs")
    if not operands:
        parser.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE", help="override one key; repeatable"
        )
    for name, meaning in options.items():
        parser.add_argument(f"--{name}", help=meaning)
    for name, meaning in flags.items():
        parser.add_argument(f"--{name}", action="store_true", help=meaning)
    arguments = parser.parse_args()
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format=(CLEAR_LINE if sys.stderr.isatty() else "") + "%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
    )
    try:
        summary = job(arguments)
    except InputError as error:
        logger.error("%s", error)
        return 2
    except GateError as error:
        logger.error("%s", error)
        print(json.dumps(error.summary), flush=True)
        return 3
    print(json.dumps(summary), flush=True)
    return 0


@contextlib.contextmanager
def ray_session(runtime: RuntimeConfig) -> Iterator[None]:
    """Join the running cluster (`RAY_ADDRESS`, set by `ray job submit`), or start a Ray here that ends with the job."""
    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level=logging.WARNING)
    else:
        ray.init(num_cpus=runtime.num_cpus, include_dashboard=False, logging_level=logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False  # ours counts galaxies, and suits a log file
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # There is no other way yet to bound an actor's restarts; the pinned version knows the arguments.
    warnings.filterwarnings("ignore", message=".*ray_remote_args", category=RayDeprecationWarning)
    try:
        yield
    finally:
        ray.shutdown()
