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
from collections.abc import Iterable, Mapping, Set
from typing import Any
from urllib.parse import unquote_plus

__all__ = [
    "GalaxyBatchError",
    "GateError",
    "InputError",
    "RunInterrupted",
    "has_credentials",
    "without_credentials",
    "without_secrets",
]

_CHAIN = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.-]*://)")  # fsspec chains: zip://a.jpg::https://host/x.zip
# Parameters of a query that are credentials, or the signature of a link: by their whole name, or by a word in it.
_CREDENTIALS = {
    "apikey", "api_key", "api-key", "auth", "authorization", "expires", "googleaccessid", "hmac", "jwt", "key",
    "key-pair-id", "login", "ossaccesskeyid", "pass", "passwd", "policy", "pwd", "sas", "sig", "sign", "user",
    "username",
}  # fmt: skip
_CREDENTIAL_WORDS = re.compile(
    r"^(x-(amz|goog|oss|ms|obs)-|q-(ak|sign|key|header|url)|hdn(ea|ts|tl)$)"
    r"|accesskey|access[-_]key|apikey|api[-_]key|credential|passw|secret|session|signature|token"
)
# A shared access signature of Azure: its other parameters are short words that cutout services use too.
_AZURE = {
    "sv", "ss", "srt", "sr", "sp", "st", "se", "spr", "sip", "si", "sig", "skoid", "sktid", "skt", "ske", "sks",
    "skv", "saoid", "suoid", "scid", "sdd", "ses",
}  # fmt: skip
_HARMLESS = {"expires", "login", "policy", "user", "username"}  # grant nothing by themselves
_MEMBERS = ("zip://", "tar://")
_CREDENTIAL_VALUE = re.compile(r"://[^/?#]*@|\bAKIA[0-9A-Z]{16}\b|\beyJ[\w-]+\.eyJ")  # a URI, a key of AWS, a JWT
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


def without_credentials(uri: str) -> str:
    """The URI as it may be published: without user, password, fragment, and parameters that grant access.

    Of the query, parameters are left out whose names are those of credentials or of a signed link (S3, Google Cloud,
    Azure, CloudFront, Akamai, Alibaba, Tencent, Huawei; keys, tokens, passwords, sessions), whose values contain some,
    and that have no name. A cutout service keeps its position, size, bands and layer. A secret in the path, or under a
    name that says nothing, is not recognized.
    """
    return "::".join(map(_publishable, _CHAIN.split(uri)))


def has_credentials(uri: str) -> bool:
    """Whether the URI grants access: by a user or password, or by a parameter that is a key, a token or a signature.

    `without_credentials` leaves out more than these, to be safe: parameters without a name, and names of users.
    """
    return any(map(_grants_access, _CHAIN.split(uri)))


def _grants_access(uri: str) -> bool:
    before, _, query = uri.partition("#")[0].partition("?")
    if before.startswith(_MEMBERS) or "://" not in before:
        return False
    parameters = [([name for name in _names(text) if name not in _HARMLESS], text) for text in query.split("&")]
    return _shown(before) != before or any(_is_credential(names, text) for names, text in parameters)


def _publishable(uri: str) -> str:
    shown = _shown(uri)
    before, mark, query = uri.partition("#")[0].partition("?")
    if before.startswith(_MEMBERS):  # of an archive: a name, in which ? and @ mean nothing
        return uri
    if not mark or "://" not in before:
        return shown
    parameters = [(_names(parameter), parameter) for parameter in query.split("&")]
    every = {name for names, _ in parameters for name in names}
    also = _AZURE if {"sig", "sv"} <= every else frozenset()
    kept = [parameter for names, parameter in parameters if names and not _is_credential(names, parameter, also)]
    return f"{shown}?{'&'.join(kept)}" if kept else shown


def _names(parameter: str) -> list[str]:
    """Names in `a=1`, and those in `a=1;b=2`, which some servers take as two parameters; none without a name."""
    pieces = unquote_plus(parameter).split(";")
    return [name.strip().lower() for name, equals, _ in (piece.partition("=") for piece in pieces) if equals]


def _is_credential(names: Iterable[str], parameter: str, also: Set[str] = frozenset()) -> bool:
    """Whether a parameter is a credential, by one of its names, of which `also` are some too, or by its value."""
    named = any(name in _CREDENTIALS or name in also or _CREDENTIAL_WORDS.search(name) for name in names)
    return named or bool(_CREDENTIAL_VALUE.search(unquote_plus(parameter)))


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
