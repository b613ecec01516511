"""Settings: frozen dataclasses, read from TOML, checked before anything starts.

Unknown keys, wrong types and values out of range are `InputError`s that name the field, the value and
the remedy. `--set section.key=value` overrides the file; the value is read as TOML, and as plain text where
it is not TOML.
"""

import dataclasses
import difflib
import tomllib
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from galaxy_batch.errors import InputError

__all__ = ["Range", "Uri", "load_config", "parse_config", "resolve_uri"]

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """Limits of a number, both included; used as `Annotated[float, Range(0, 1)]`."""

    low: float = float("-inf")
    high: float = float("inf")


class Uri:
    """Marks a field that is a path or URI: relative local paths are made absolute when read."""


def load_config(kind: type[T], path: str | Path, overrides: Iterable[str] = ()) -> T:
    """Read a TOML file and `key=value` overrides into the dataclass `kind`.

    Raises:
        InputError: the file is missing or not TOML, or a field is unknown, mistyped or out of range.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError("config", str(path), "no such file; the first argument is a TOML config")
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError("config", str(path), f"not valid TOML: {error}") from None
    return parse_config(kind, values, overrides)


def parse_config(kind: type[T], values: Mapping[str, Any], overrides: Iterable[str] = ()) -> T:
    """Build the dataclass `kind` from nested tables and `key=value` overrides; errors as `load_config`."""
    tree = _copied(values)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise InputError(
                "--set", override, "write it as key=value, with dots for sections: review.audit_fraction=0.02"
            )
        *sections, name = key.strip().split(".")
        table = tree
        for section in sections:
            table = table.setdefault(section, {})
            if not isinstance(table, dict):
                raise InputError("--set", override, f"{section} is a value, not a section")
        table[name] = _toml_value(text)
    return _build(kind, tree, "")


def resolve_uri(uri: str) -> str:
    """The URI itself; a local path without a scheme made absolute, since workers have another working directory."""
    return uri if "://" in uri or uri.startswith("memory:") else str(Path(uri).expanduser().absolute())


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _build(kind: type[T], values: Mapping[str, Any], prefix: str) -> T:
    hints = get_type_hints(kind, include_extras=True)
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key, value in values.items():
        if key not in fields:
            close = difflib.get_close_matches(key, fields, n=1)
            guess = f"did you mean {prefix}{close[0]}?" if close else f"known keys: {', '.join(fields)}"
            raise InputError(f"{prefix}{key}", value, f"unknown key; {guess}")
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise InputError(f"{prefix}{name}", None, "is required and not given")
    return kind(**{key: _checked(hints[key], value, f"{prefix}{key}") for key, value in values.items()})


def _checked(hint: Any, value: Any, name: str) -> Any:  # noqa: PLR0911 - one return per kind of type
    """The value as the type hint wants it; raises `InputError` where it is not that."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _limited(_checked(arguments[0], value, name), arguments[1:], name)
    if origin in (Union, types.UnionType):
        inner = next(a for a in arguments if a is not type(None))
        return None if value is None else _checked(inner, value, name)
    if origin is Literal:
        if value not in arguments:
            raise InputError(name, value, f"must be one of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise InputError(name, value, "must be a list")
        return tuple(_checked(arguments[0], item, f"{name}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise InputError(name, value, "must be a section")
        return {key: _checked(arguments[1], item, f"{name}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise InputError(name, value, f"must be a section: [{name}]")
        return _build(hint, value, f"{name}.")  # type: ignore[arg-type]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise InputError(name, value, f"must be of type {hint.__name__}, not {type(value).__name__}")
    return value


def _limited(value: Any, marks: Iterable[Any], name: str) -> Any:
    for mark in marks:
        if isinstance(mark, Range) and value is not None and not mark.low <= value <= mark.high:  # nan fails too
            raise InputError(name, value, f"must be between {mark.low:g} and {mark.high:g}")
        if mark is Uri and value is not None:
            if not value:
                raise InputError(name, value, "must not be empty")
            value = resolve_uri(value)
    return value
