"""What can go wrong, in one tree; a job's exit code follows from it.

::

    Exception
    └── GalaxyBatchError          errors for which a traceback is not useful
        ├── InputError            exit 2: a config, command, manifest or checkpoint that cannot be used
        └── GateError             exit 3: the work was done, and what came out is not good enough

A bad *image* is neither: it is a row with a status. Anything else that is raised is a bug or a
machine that failed, and keeps its traceback (exit 1). Messages show URIs without what may be secret in them.
"""

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["GalaxyBatchError", "GateError", "InputError", "without_secrets"]

_CHAIN = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.-]*://)")  # fsspec's: zip://a.jpg::https://host/x.zip
_URI_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")


class GalaxyBatchError(Exception):
    """An error that its message explains: no traceback is shown for it."""


class InputError(GalaxyBatchError, ValueError):
    """Something that the user gave cannot be used; the message says which, its value, and the remedy."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        value = without_secrets(value) if isinstance(value, str) else value
        self.field, self.value, self.remedy = field, value, _cleaned(remedy)
        super().__init__(field, value, self.remedy)  # all three, so that the error survives pickling between processes

    def __str__(self) -> str:
        shown = _cleaned(repr(self.value))
        if len(shown) > 300:
            shown = shown[:300] + "…"
        return f"{self.field} = {shown}: {self.remedy}"


class GateError(GalaxyBatchError):
    """A gate that the result did not pass; `summary` is the job's JSON summary all the same."""

    def __init__(self, message: str, summary: Mapping[str, Any]) -> None:
        self.message, self.summary = _cleaned(message), dict(summary)
        super().__init__(self.message, self.summary)

    def __str__(self) -> str:
        return self.message


def without_secrets(uri: str) -> str:
    """The URI as it may be shown: no user, password, query or fragment, where signatures and tokens hide."""
    return "::".join(map(_shown, _CHAIN.split(uri)))


def _shown(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    rest = rest.partition("?")[0].partition("#")[0]
    host, slash, path = rest.partition("/")
    if "@" in path and "@" not in host and ":" in host and not host.rpartition(":")[2].isdigit():
        host, slash, path = rest.rpartition("@")[2].partition("/")  # not a port: a password with a slash in it
    if not scheme.startswith(("abfs", "wasb")):  # Azure's container@account is no secret, and part of the place
        host = host.rpartition("@")[2]
    return f"{scheme}://{host}{slash}{path}"


def _cleaned(text: str) -> str:
    return _URI_IN_TEXT.sub(lambda found: without_secrets(found[0]), text)
