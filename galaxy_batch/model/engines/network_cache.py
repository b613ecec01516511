"""Converted networks, kept on this machine: converting one again takes seconds, and imports torch and timm.

They are in `$GALAXY_BATCH_CACHE`, or in `galaxy_batch` in the user's cache folder (`$XDG_CACHE_HOME`, `~/.cache`),
which may be deleted at any time. A file is named by everything it is made from: the checkpoint, the batch size, the
versions of the packages and the code of the network. A folder that cannot be used is no error: nothing is kept then.
"""

import contextlib
import functools
import hashlib
import io
import logging
import os
import zipfile
from importlib.metadata import version
from pathlib import Path

from galaxy_batch.storage.files import write_atomically

__all__ = ["cached_network", "keep_network"]

logger = logging.getLogger(__name__)

_MAX_BYTES = 1 << 30  # of all files; those that were not used for longest are removed
_PACKAGES = ("openvino", "torch", "timm")
_CODE = ("network.py", "familiarity.py", "engines/conversion.py")  # what determines a network, beside the checkpoint


def cached_network(checkpoint_id: str, batch_size: int) -> bytes | None:
    """The converted network, if it is kept here and undamaged."""
    file = _file(checkpoint_id, batch_size)
    try:
        network = file.read_bytes()
        with zipfile.ZipFile(io.BytesIO(network)) as members:
            damaged = members.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        if not isinstance(error, FileNotFoundError):
            logger.warning("a kept network cannot be used: %s: %s", file, error)
        return None
    if damaged is not None:
        logger.warning("a kept network is damaged: %s", file)
        return None
    with contextlib.suppress(OSError):
        os.utime(file)
    return network


def keep_network(checkpoint_id: str, batch_size: int, network: bytes) -> None:
    """Keep a converted network, and remove the oldest ones where there is too much."""
    file = _file(checkpoint_id, batch_size)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(str(file), network)
        files = sorted(((entry.stat(), entry) for entry in file.parent.iterdir()), key=lambda one: -one[0].st_mtime)
        total = 0
        for status, entry in files:
            total += status.st_size
            if total > _MAX_BYTES and entry != file:
                entry.unlink(missing_ok=True)
    except OSError as error:
        logger.info("converted networks are not kept: %s", error)


def _file(checkpoint_id: str, batch_size: int) -> Path:
    own = os.environ.get("GALAXY_BATCH_CACHE")
    parent = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    folder = Path(own) if own else parent / "galaxy_batch"
    made_from = f"{checkpoint_id} {batch_size} {_code_and_versions()}"
    return (
        folder.expanduser() / "networks" / f"{checkpoint_id}-{hashlib.sha256(made_from.encode()).hexdigest()[:16]}.zip"
    )


@functools.cache
def _code_and_versions() -> str:
    folder = Path(__file__).parents[1]
    code = hashlib.sha256(b"".join((folder / name).read_bytes() for name in _CODE)).hexdigest()
    return " ".join([code, *(version(name) for name in _PACKAGES)])
