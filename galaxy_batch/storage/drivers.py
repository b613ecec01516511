"""The fsspec driver for a URI: `s3fs` for `s3://`, `gcsfs` for `gs://`, `aiohttp` for `https://`.

Endpoints, credentials and timeouts come from the environment and config of the driver (boto, fsspec), never from
ours. Without them, s3fs waits 5 s for a connection and 15 s for the next byte.
"""

from copy import deepcopy
from typing import Any

import fsspec

from galaxy_batch.errors import InputError

__all__ = ["CONCURRENT_READS", "filesystem", "filesystem_without_retries"]

CONCURRENT_READS = 32
"""Number of files that one task reads from one store at a time; one where the driver is not asynchronous."""

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "hf": "hf", "http": "http", "https": "http"}
_PACKAGES = {"s3": "s3fs", "gcs": "gcsfs", "hf": "huggingface_hub", "http": "aiohttp"}  # the driver of each extra
_S3_ONCE = {"retries": {"total_max_attempts": 1}, "max_pool_connections": CONCURRENT_READS}


def filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Open the file system of a URI; returns it and the path within. Retries are left to the driver.

    Raises:
        InputError: the URI's scheme is unknown, or needs a driver that is not installed.
    """
    return _driver(uri, s3_tries=2)  # boto makes five attempts; s3fs repeats a body that broke off


def filesystem_without_retries(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """As `filesystem`, for callers that retry themselves: switches off the retries of s3fs and boto.

    Together those make up to 125 requests for one file that hangs (5 × 5 in s3fs, 5 in boto). The user's own settings
    for boto (`config_kwargs`) take precedence.
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
