"""Start Ray for one job on this machine, or connect to the cluster that `RAY_ADDRESS` names."""

import contextlib
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ray
from ray._common.utils import get_default_ray_temp_dir
from ray._private.node import Node

from galaxy_batch.errors import InputError

__all__ = ["local_ray", "ray_at"]

_CONNECT_TIMEOUT_S = 10.0
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - a folder of mode 0700 is made there
_MAX_SOCKET_PATH = 103  # bytes: 107 on Linux, 103 on macOS
_LONGEST_SOCKET = "/session_2000-01-01_00-00-00_000000_0000000/sockets/plasma_store.0"
_MAX_TEMP_PATH = _MAX_SOCKET_PATH - len(_LONGEST_SOCKET)


@contextlib.contextmanager
def local_ray(num_cpus: int | None) -> Iterator[None]:
    """Start a new Ray with `num_cpus` CPUs (None: all) and stop it at the end.

    Without `address="local"`, Ray would connect to another user's cluster, or wait for one that left its address file.
    """
    with _temp_folder() as folder:
        with _without_api_server():
            ray.init(
                address="local", num_cpus=num_cpus, include_dashboard=False, logging_level=logging.WARNING,
                _temp_dir=folder,
            )  # fmt: skip
        try:
            yield
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _without_api_server() -> Iterator[None]:
    """Start Ray without the server of its dashboard, states and `ray job`, none of which a Ray for one job has.

    Ray starts it even with `include_dashboard=False`, and waits for it longer than for all the rest.
    """
    start = Node.start_api_server
    Node.start_api_server = lambda *_, **__: None
    try:
        yield
    finally:
        Node.start_api_server = start


@contextlib.contextmanager
def ray_at(address: str) -> Iterator[None]:
    """Connect to the cluster at `address` (`HOST:PORT`, `ray://HOST:PORT` or `auto`), and disconnect at the end.

    Raises:
        InputError: the address is malformed, or nothing listens there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address not in ("auto", "local"):
        remedy = "unset RAY_ADDRESS to start Ray on this machine, or set it to HOST:PORT of a cluster"
        if "/" in host or not port.isdigit():
            raise InputError("RAY_ADDRESS", address, f"not the address of a Ray cluster: {remedy}")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S).close()
        except (OSError, OverflowError) as error:
            raise InputError("RAY_ADDRESS", address, f"no Ray cluster responds ({error}): {remedy}") from None
    ray.init(logging_level=logging.WARNING)
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _temp_folder() -> Iterator[str]:
    """Folder of Ray's sessions, with a path that is short enough for its sockets.

    It is `ray` in `RAY_TMPDIR`, `TMPDIR` or `/tmp`. A longer path is replaced by a link in a private folder.

    Raises:
        InputError: the path is too long, and no short folder can be written.
    """
    folder = get_default_ray_temp_dir()
    if len(os.fsencode(folder)) <= _MAX_TEMP_PATH:
        yield folder
        return
    os.makedirs(folder, exist_ok=True)
    private = _private_folder(Path(folder).parent)
    try:
        link = private / "ray"
        link.symlink_to(folder)
        yield str(link)
    finally:
        shutil.rmtree(private, ignore_errors=True)  # removes the link, not the folder


def _private_folder(instead_of: Path) -> Path:
    for parent in _SHORT_FOLDERS:
        with contextlib.suppress(OSError):
            return Path(tempfile.mkdtemp(prefix="gb-", dir=parent))
    name = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
    longest = _MAX_TEMP_PATH - len("/ray")
    remedy = f"too long for the sockets of Ray: set RAY_TMPDIR to a folder of at most {longest} letters"
    raise InputError(name, str(instead_of), remedy)
