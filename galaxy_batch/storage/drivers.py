"""The fsspec driver that a URI needs: `s3fs` for `s3://`, `gcsfs` for `gs://`, `aiohttp` for `https://`.

Endpoints, credentials and time-outs come from the driver's own environment and config (boto's, fsspec's), never from
ours. Where they say nothing, s3fs waits 5 s for a connection and 15 s for the next byte.
"""

from copy import deepcopy
from typing import Any

import fsspec

from galaxy_batch.errors import InputError

__all__ = ["CONCURRENT_READS", "filesystem", "filesystem_without_retries"]

CONCURRENT_READS = 32
"""Files that are read from one store at a time by one task; from a driver that cannot wait for several, one."""

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "hf": "hf", "http": "http", "https": "http"}
_PACKAGES = {"s3": "s3fs", "gcs": "gcsfs", "hf": "huggingface_hub", "http": "aiohttp"}  # the driver of each extra
_S3_ONCE = {"retries": {"total_max_attempts": 1}, "max_pool_connections": CONCURRENT_READS}


def filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system that a URI lives on, and the path within it. What retries there are, the driver does.

    Raises:
        InputError: the URI's scheme is unknown, or needs a driver that is not installed.
    """
    return _driver(uri, s3_tries=2)  # boto's five tries, and s3fs's second for a body that broke off


def filesystem_without_retries(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """As `filesystem`, for callers that do the retries: no driver's own multiply them, as far as it lets us.

    By itself s3fs tries five times, within that five times again, and boto five times in each: 125 requests for one
    file that hangs. What the user has configured for boto (`config_kwargs`) goes before ours.
    """
    if not uri.startswith(("s3://", "s3a://")):
        return filesystem(uri)
    configured = {**fsspec.config.conf.get("s3", {}), **fsspec.config.conf.get("s3a", {})}.get("config_kwargs", {})
    return _driver(uri, s3_tries=1, config_kwargs=deepcopy({**_S3_ONCE, **configured}))  # boto writes into it


def _driver(uri: str, s3_tries: int, **options: Any) -> tuple[fsspec.AbstractFileSystem, str]:
    try:
        fs, path = fsspec.core.url_to_fs(uri, **options)
    except ImportError as error:
        raise InputError("uri", uri, f"no driver for this scheme: {_remedy(uri, error)}") from None
    except ValueError as error:
        raise InputError("uri", uri, f"no driver for this scheme: {error}") from None
    if "s3" in fs.protocol:
        fs.retries = s3_tries
    return fs, path


def _remedy(uri: str, error: ImportError) -> str:
    scheme = uri.partition("://")[0].rpartition("::")[2]
    extra = _EXTRAS.get(scheme)
    return f"install {_PACKAGES[extra]}, or galaxy-batch[{extra}]" if extra else str(error)
