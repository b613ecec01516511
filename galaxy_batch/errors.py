"""Exceptions of the project; they determine the exit code of a job.

::

    Exception
    └── GalaxyBatchError          shown without a traceback
        ├── InputError            exit 2: invalid config, command, manifest or checkpoint
        └── GateError             exit 3: the job finished, but its result exceeds a limit
    KeyboardInterrupt
    └── RunInterrupted            exit 130: SIGINT or SIGTERM; the run has logged how far it came

A bad *image* raises neither: its row gets a status. Any other exception is a bug or a machine failure and keeps its
traceback (exit 1). Messages contain URIs without credentials.
"""

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["GalaxyBatchError", "GateError", "InputError", "RunInterrupted", "without_secrets"]

_CHAIN = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.-]*://)")  # fsspec chains: zip://a.jpg::https://host/x.zip
_URI_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")


class GalaxyBatchError(Exception):
    """An error explained by its message: shown without a traceback."""


class InputError(GalaxyBatchError, ValueError):
    """Invalid input; the message names the field, its value and the remedy."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        value = without_secrets(value) if isinstance(value, str) else value
        self.field, self.value, self.remedy = field, value, _cleaned(remedy)
        super().__init__(field, value, self.remedy)  # all arguments, so that the error can be pickled

    def __str__(self) -> str:
        shown = _cleaned(repr(self.value))
        if len(shown) > 300:
            shown = shown[:300] + "…"
        return f"{self.field} = {shown}: {self.remedy}"


class GateError(GalaxyBatchError):
    """A result exceeds a limit; `summary` is the job's JSON summary."""

    def __init__(self, message: str, summary: Mapping[str, Any]) -> None:
        self.message, self.summary = _cleaned(message), dict(summary)
        super().__init__(self.message, self.summary)

    def __str__(self) -> str:
        return self.message


class RunInterrupted(KeyboardInterrupt):
    """A run was interrupted, and has logged how far it came."""


def without_secrets(uri: str) -> str:
    """The URI without user, password, query and fragment, which may hold signatures and tokens."""
    return "::".join(map(_shown, _CHAIN.split(uri)))


def _shown(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    rest = rest.partition("?")[0].partition("#")[0]
    host, slash, path = rest.partition("/")
    if "@" in path and "@" not in host and ":" in host and not host.rpartition(":")[2].isdigit():
        host, slash, path = rest.rpartition("@")[2].partition("/")  # a password that contains a slash
    if not scheme.startswith(("abfs", "wasb")):  # Azure's container@account is part of the location
        host = host.rpartition("@")[2]
    return f"{scheme}://{host}{slash}{path}"


def _cleaned(text: str) -> str:
    return _URI_IN_TEXT.sub(lambda uri: without_secrets(uri[0]), text)
