"""Leaves out of a job's log what Ray says about settings that the jobs choose on purpose."""

import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator
from threading import Thread

__all__ = ["quiet_ray"]

# The beginnings of messages, by Ray's logger.
_MESSAGES = {
    # A Ray of the job's own makes a token for itself; `cluster/README.md` tells how to set one for a cluster.
    "ray._private.authentication.authentication_token_setup": "Token authentication is enabled for this Ray cluster",
    # `galaxy_batch.runtime.progress` counts galaxies instead.
    "ray.data._internal.progress": "Progress bars disabled",
}
# Ray's C++ code writes this past Python's logging. The arguments belong to the driver: without it, there is no job.
_RESTART_NOTE = re.compile(rb"[^\n]*has constructor arguments in the object store and max_restarts > 0[^\n]*\n")


@contextlib.contextmanager
def quiet_ray() -> Iterator[None]:
    """Start and use Ray within this context; other messages of Ray are still shown."""
    for name in _MESSAGES:
        logging.getLogger(name).addFilter(_is_shown)
    if sys.__stderr__ is None or sys.stderr is not sys.__stderr__:  # none, or already replaced, such as by pytest
        yield
        return
    with os.fdopen(os.dup(2), "w", buffering=1) as stderr, contextlib.redirect_stderr(stderr):
        handlers = [one for one in logging.root.handlers if isinstance(one, logging.StreamHandler)]
        handlers = [one for one in handlers if one.stream is sys.__stderr__]
        with _filtered_descriptor(stderr.fileno()):
            for handler in handlers:
                handler.setStream(stderr)
            try:
                yield
            finally:
                for handler in handlers:
                    handler.setStream(sys.__stderr__)


def _is_shown(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_MESSAGES[record.name])


@contextlib.contextmanager
def _filtered_descriptor(target: int) -> Iterator[None]:
    """Send what is written to file descriptor 2 to `target`, without `_RESTART_NOTE`."""
    source, sink = os.pipe()
    os.dup2(sink, 2)
    os.close(sink)
    thread = Thread(target=_copy, args=(source, os.dup(target)), daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.dup2(target, 2)
        thread.join(1)  # a child process may still hold the pipe


def _copy(source: int, target: int) -> None:
    while chunk := os.read(source, 65_536):  # a message is one write, and therefore whole
        rest = _RESTART_NOTE.sub(b"", chunk)
        while rest:
            rest = rest[os.write(target, rest) :]
    os.close(source)
    os.close(target)
