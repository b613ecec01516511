"""Command line of the jobs: arguments, logging, start of Ray, summary line, exit codes."""

import argparse
import contextlib
import functools
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from threading import Timer
from typing import Any

from galaxy_batch.config import RuntimeConfig
from galaxy_batch.errors import GateError, InputError, RunInterrupted
from galaxy_batch.runtime.progress import CLEAR_LINE
from jobs.arguments import CommandLine
from jobs.quiet import quiet_ray

__all__ = ["interruptible", "ray_session", "run_job"]

logger = logging.getLogger("jobs")

_INTERRUPTED = 130
_INTERRUPT_AGAIN_S = 0.05  # longer than a finalizer takes


def run_job(command_line: CommandLine, job: Callable[[argparse.Namespace], dict[str, Any]]) -> int:
    """Parse the command line, run the job, and print its summary as the last line of stdout.

    Args:
        command_line: the arguments that the job takes.
        job: function of the parsed arguments; returns the summary.

    Returns:
        The exit code: 0 done; 2 a bad config or command; 3 a gate failed; 130 interrupted by SIGINT or SIGTERM. Any
        other exception is raised (exit code 1).
    """
    arguments = command_line.parse()
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
    except RunInterrupted:
        return _INTERRUPTED
    except KeyboardInterrupt:
        logger.warning("interrupted")
        return _INTERRUPTED
    print(json.dumps(summary), flush=True)
    return 0


def _interrupt(*_: object) -> None:
    """Handle the first signal: end the job in good order. A second one ends it at once."""
    _handle_signals(lambda *_: os._exit(_INTERRUPTED))
    raise KeyboardInterrupt


def _interrupt_again(hook: Callable[[Any], Any], unraisable: Any) -> None:
    """Python drops an exception raised in a finalizer or a weak reference's callback: interrupt once more after it."""
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        hook(unraisable)
        return
    _handle_signals(_interrupt)
    Timer(_INTERRUPT_AGAIN_S, signal.raise_signal, [signal.SIGINT]).start()


def _handle_signals(handler: Callable[..., None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within the context, SIGINT and SIGTERM raise KeyboardInterrupt."""
    hook = sys.unraisablehook
    sys.unraisablehook = functools.partial(_interrupt_again, hook)
    try:
        _handle_signals(_interrupt)
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def ray_session(runtime: RuntimeConfig) -> Iterator[None]:
    """Connect to the cluster at `RAY_ADDRESS`, which `ray job submit` sets, or start a local Ray for this job only.

    Within the context, SIGINT and SIGTERM raise KeyboardInterrupt.
    """
    import ray
    from ray.util.annotations import RayDeprecationWarning

    from jobs.ray_start import local_ray, ray_at

    address = os.environ.get("RAY_ADDRESS")
    with interruptible(), quiet_ray(), ray_at(address) if address else local_ray(runtime.num_cpus):
        _handle_signals(_interrupt)  # again, after `ray.init`, which sets its own
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False  # runtime.progress logs galaxies instead
        context.issue_detectors_config.detectors = []  # they advise on settings of Ray that users do not have
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        # `ray_remote_args` is deprecated, but is the only way to limit the restarts of an actor in Ray 2.60.
        warnings.filterwarnings("ignore", message=".*ray_remote_args", category=RayDeprecationWarning)
        yield
