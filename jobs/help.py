"""Text of `--help`: the settings of a job with type, default and meaning, from the dataclasses that hold them."""

import ast
import dataclasses
import functools
import inspect
import itertools
import json
import shutil
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from galaxy_batch.settings import Range, Uri

__all__ = ["description_text", "settings_text", "text_width"]

_NARROWEST, _WIDEST = 30, 110
_NAMES = {str: "text", int: "integer", float: "number", bool: "true or false", Any: "any value"}


def text_width() -> int:
    """Width of the help on this terminal, in characters."""
    return min(max(shutil.get_terminal_size().columns - 1, _NARROWEST), _WIDEST)


def description_text(docstring: str, width: int) -> str:
    """The docstring with its paragraphs filled to the width; indented lines, such as commands, stay whole."""
    paragraphs = inspect.cleandoc(docstring).split("\n\n")
    return "\n\n".join(text if "\n  " in text else textwrap.fill(text, width) for text in paragraphs)


def settings_text(kind: type, width: int) -> str:
    """All settings of a dataclass, by section: those that are required first, then those with a default."""
    lines = ["", *_wrapped("settings, in CONFIG.toml or by --set KEY=VALUE:", 0, width)]
    return "\n".join([*lines, *_section(kind, "", width)]) + "\n"


def _section(kind: type, prefix: str, width: int) -> Iterator[str]:
    hints, meanings = get_type_hints(kind, include_extras=True), _meanings(kind)
    fields = sorted(dataclasses.fields(kind), key=lambda field: not _is_required(field))
    for field in fields:
        if _dataclass_in(hints[field.name]) is None:
            yield ""
            shown = f"{prefix}{field.name}  ({_type_text(hints[field.name])}; {_default_text(field, prefix)})"
            yield from _wrapped(shown, 2, width)
            yield from _wrapped(meanings.get(field.name, ""), 6, width)
    for field in fields:
        section = _dataclass_in(hints[field.name])
        if section is not None:
            yield ""
            meaning = meanings.get(field.name) or inspect.cleandoc(section.__doc__ or "").partition("\n\n")[0]
            optional = " Optional." if field.default is None else ""
            name = f"[{prefix}{field.name}]"
            name = f"[{name}]" if get_origin(hints[field.name]) is tuple else name  # TOML's array of tables
            yield from _wrapped(f"{name} {meaning}{optional}", 0, width)
            yield from _section(section, f"{prefix}{field.name}.", width)


def _wrapped(text: str, indent: int, width: int) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(
        text, width, initial_indent=margin, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
    )


def _is_required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _dataclass_in(hint: Any) -> type | None:
    """The dataclass of a section, or of one that may be repeated; None for any other setting."""
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType, tuple) else (hint,)
    return next((member for member in members if dataclasses.is_dataclass(member) and isinstance(member, type)), None)


def _type_text(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        limits = [_limits_text(mark) for mark in arguments[1:] if isinstance(mark, Range)]
        return "path or URI" if Uri in arguments else " ".join([_type_text(arguments[0]), *limits])
    if origin in (Union, types.UnionType):
        return _type_text(next(member for member in arguments if member is not types.NoneType))
    if origin is Literal:
        return " | ".join(map(json.dumps, arguments))
    if origin is tuple:
        count = "" if ... in arguments else f"{len(arguments)} × "
        return f"list of {count}{_type_text(arguments[0])}"
    if origin is dict:
        return f"section of names = {_type_text(arguments[1])}"
    return _NAMES[hint]


def _default_text(field: "dataclasses.Field[Any]", prefix: str) -> str:
    if _is_required(field):
        return "required in this section" if prefix else "required"
    value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    if value is None:
        return "optional"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"default {_number_text(value)}"
    return f"default {json.dumps(value, ensure_ascii=False)}"


def _limits_text(limits: Range) -> str:
    low = _number_text(limits.low)
    return f"from {low}" if limits.high == float("inf") else f"from {low} to {_number_text(limits.high)}"


def _number_text(number: float) -> str:
    """The number as in TOML, with underscores from 10_000."""
    return f"{int(number):_}" if 10_000 <= number < 1e12 and number == int(number) else f"{number:g}"


def _meanings(kind: type) -> dict[str, str]:
    """The docstring beneath each field, by name, also of the dataclasses that it extends."""
    meanings: dict[str, str] = {}
    for owner in reversed([one for one in kind.__mro__ if dataclasses.is_dataclass(one)]):
        classes = [
            node for node in _tree(sys.modules[owner.__module__].__file__ or "").body if isinstance(node, ast.ClassDef)
        ]
        body = next(node.body for node in classes if node.name == owner.__name__)
        for first, second in itertools.pairwise(body):
            if isinstance(first, ast.AnnAssign) and isinstance(first.target, ast.Name):
                match second:
                    case ast.Expr(ast.Constant(str(text))):
                        meanings[first.target.id] = " ".join(text.split())
    return meanings


@functools.cache
def _tree(file: str) -> ast.Module:
    return ast.parse(Path(file).read_text(encoding="utf-8"))
