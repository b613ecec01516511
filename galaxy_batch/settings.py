"""Settings: frozen dataclasses, read from TOML and checked before a job starts.

Unknown keys, wrong types and values out of range are `InputError`s that name the field, the value and the remedy.
`--set section.key=value` overrides the file; the value is read as TOML, or as plain text where it is not TOML.
`--unset section.key` takes a key or a section out of the file, which restores the default.

A field may be annotated with `str`, `int`, `float`, `bool`, `Literal`, a tuple (`tuple[str, ...]` or of fixed length),
`dict[str, ...]`, another dataclass, or one of these `| None`; `Annotated` adds a `Range` or `Uri`. Any other
annotation is a `TypeError`.
"""

import dataclasses
import difflib
import tomllib
import types
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from galaxy_batch.errors import InputError

__all__ = ["Range", "Unset", "Uri", "check_annotations", "load_config", "parse_config", "resolve_uri", "setting_type"]

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """Limits of a number, both included; used as `Annotated[float, Range(0, 1)]`."""

    low: float = float("-inf")
    high: float = float("inf")

    def __str__(self) -> str:
        return f"at least {self.low:g}" if self.high == float("inf") else f"between {self.low:g} and {self.high:g}"


class Uri:
    """Marks a field that is a path or URI: relative local paths are made absolute when read."""


class Unset(str):
    """An override that removes a key or a section, named with dots, from what the file gives."""

    __slots__ = ()


def load_config(kind: type[T], path: str | Path | None, overrides: Iterable[str] = ()) -> T:
    """Read a TOML file, if there is one, and overrides (`key=value`, `Unset`) into the dataclass `kind`.

    Raises:
        InputError: the file is missing or not TOML, or a field is unknown, mistyped or out of range.
    """
    if path is None:
        return parse_config(kind, {}, overrides)
    file = Path(path)
    if not file.is_file():
        raise InputError("config", str(path), "no such file; the first argument is a TOML config")
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError("config", str(path), f"not valid TOML: {error}") from None
    return parse_config(kind, values, overrides)


def parse_config(kind: type[T], values: Mapping[str, Any], overrides: Iterable[str] = ()) -> T:
    """Build the dataclass `kind` from nested tables and overrides; errors as `load_config`."""
    check_annotations(kind)
    tree = deepcopy(dict(values))
    for override in overrides:
        if isinstance(override, Unset):
            _remove(kind, override, tree)
        else:
            _apply(override, tree)
    return _build(kind, tree, "")


def check_annotations(kind: type) -> None:
    """Check that this module can parse every field of a dataclass and of the dataclasses within.

    Raises:
        TypeError: it cannot; the message names the class and the field.
    """
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        if not _is_supported(hints[field.name]):
            raise TypeError(f"{kind.__name__}.{field.name}: settings cannot have the type {hints[field.name]}")


def resolve_uri(uri: str) -> str:
    """Return the URI; a local path without a scheme made absolute, since workers have another working directory."""
    return uri if "://" in uri or uri.startswith(("memory:", "builtin:")) else str(Path(uri).expanduser().absolute())


def _is_supported(hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        check_annotations(hint)  # type: ignore[arg-type]
        return True
    if origin is Annotated:
        return _is_supported(arguments[0]) and all(isinstance(m, Range) or m is Uri for m in arguments[1:])
    if origin in (Union, types.UnionType):
        return len(_without_none(arguments)) == 1 and _is_supported(_without_none(arguments)[0])
    if origin is tuple:
        return all(_is_supported(item) for item in arguments if item is not ...)
    if origin is dict:
        return arguments[0] is str and _is_supported(arguments[1])
    return origin is Literal or hint in (str, int, float, bool, Any)


def _without_none(members: Iterable[Any]) -> list[Any]:
    return [member for member in members if member is not types.NoneType]


def _apply(override: str, tree: dict[str, Any]) -> None:
    """Set one `section.key=value` in nested tables."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise InputError("--set", override, "write key=value, with dots for sections: review.audit_fraction=0.02")
    *sections, name = key.strip().split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise InputError("--set", override, f"{section} is a value, not a section")
    try:
        tree[name] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        tree[name] = text


def _remove(kind: type, key: Unset, tree: dict[str, Any]) -> None:
    """Remove a key or section from nested tables, if it is there; raises `InputError` if no setting has this name."""
    setting_type(kind, key, "--unset")
    *sections, name = key.split(".")
    for section in sections:
        tree = tree.get(section, {})
        if not isinstance(tree, dict):
            return
    tree.pop(name, None)


def setting_type(kind: type, key: str, option: str) -> Any:
    """The annotation of a setting or section, without `| None`.

    Raises:
        InputError: there is no such setting; names `option`, by which the key was given.
    """
    hint: Any = kind
    for number, name in enumerate(key.split(".")):
        if get_origin(hint) is dict:
            hint = get_args(hint)[1]
            continue
        hints = get_type_hints(hint, include_extras=True) if dataclasses.is_dataclass(hint) else {}
        if name not in hints:
            section = ".".join(key.split(".")[:number])
            raise InputError(option, key, f"unknown key; known in {section or 'the config'}: {', '.join(hints)}")
        hint = hints[name]
        if get_origin(hint) in (Union, types.UnionType):
            (hint,) = _without_none(get_args(hint))
    return hint


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
    """Convert a TOML or JSON value to the annotated type; raises `InputError` where it does not fit."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _limited(_checked(arguments[0], value, name), arguments[1:], name)
    if origin in (Union, types.UnionType):
        return None if value is None else _checked(_without_none(arguments)[0], value, name)
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in arguments):
            raise InputError(name, value, f"must be one of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        return _checked_tuple(arguments, value, name)
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
    if hint is not Any and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        raise InputError(name, value, f"must be of type {hint.__name__}, not {type(value).__name__}")
    return value


def _checked_tuple(items: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    """Check a list against `tuple[X, ...]`, or against one type per element."""
    if not isinstance(value, (list, tuple)):
        raise InputError(name, value, "must be a list")
    if ... in items:
        items = items[:1] * len(value)
    if len(value) != len(items):
        raise InputError(name, value, f"must be a list of {len(items)} values")
    return tuple(_checked(items[i], element, f"{name}[{i}]") for i, element in enumerate(value))


def _limited(value: Any, marks: Iterable[Any], name: str) -> Any:
    for mark in marks:
        if isinstance(mark, Range) and not mark.low <= value <= mark.high:  # false for nan too
            raise InputError(name, value, f"must be {mark}")
        if mark is Uri:
            if not value:
                raise InputError(name, value, "must not be empty")
            value = resolve_uri(value)
    return value
