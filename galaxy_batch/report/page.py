"""One self-contained HTML page from a Jinja2 template: escaped, without scripts, network or other files."""

import base64
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from galaxy_batch.errors import without_secrets

__all__ = ["Picture", "Tile", "count", "interval", "number", "percent", "points", "render"]

_UNKNOWN = "–"


@dataclass(frozen=True)
class Picture:
    """One image of a tile."""

    content: bytes | None
    """JPEG; None where there is none."""
    alt: str
    """Alternative text."""
    reason: str = "no image"
    """Shown in place of a missing image."""


@dataclass(frozen=True)
class Tile:
    """One galaxy of a contact sheet."""

    pictures: tuple[Picture, ...]
    """Beside each other."""
    caption: tuple[str, ...] = ()
    """Lines below the pictures."""
    object_id: str = ""
    """Shown below the caption; a click selects it."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Addresses by name; they open in a new tab."""


@dataclass
class _Headings:
    """Writes a section's heading and keeps its name for the table of contents."""

    names: list[str] = field(default_factory=list)

    def __call__(self, name: str) -> Markup:
        self.names.append(name)
        return Markup('<h2 id="{}">{}</h2>').format(_anchor(name), name)


def render(package: str, template: str, **values: Any) -> str:
    """A page from a template.

    Args:
        package: the package whose `templates` folder has the template; `base.html` and `parts.html` are ours.
        template: its file name; it extends `base.html` and fills its block `body`.
        values: names of the template. `base.html` needs `title` and `about`, pairs of name and value.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("galaxy_batch.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (count, interval, number, percent, points)
    environment.filters |= {function.__name__: function for function in filters}
    environment.filters |= {"anchor": _anchor, "breakable": _breakable, "data_uri": _data_uri, "flat": _flat}
    return environment.get_template(template).render(heading=_Headings(), **values)


def count(rows: int, noun: str = "", plural: str = "") -> str:
    """A count with thousands separators and its noun: "1 row", "2,000 rows"."""
    return f"{rows:,} {noun if rows == 1 else plural or noun + 's'}" if noun else f"{rows:,}"


def percent(share: float) -> str:
    """A share of 1 as percent; a dash for nan."""
    return _UNKNOWN if math.isnan(share) else f"{share:.1%}"


def points(difference: float) -> str:
    """A difference of shares in percentage points, signed; a dash for nan."""
    if math.isnan(difference):
        return _UNKNOWN
    rounded = round(100 * difference, 1)
    return f"{rounded:+.1f}".replace("-", "−") if rounded else "0.0"


def number(value: float | None, digits: int = 3) -> str:
    """A number with this many decimals; a dash for nan and None."""
    return _UNKNOWN if value is None or math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def interval(limits: tuple[float, float], digits: int = 3, as_percent: bool = False) -> str:
    """An interval as text; a dash for nan."""
    low, high = limits
    if math.isnan(low) or math.isnan(high):
        return _UNKNOWN
    return f"{100 * low:.1f}–{100 * high:.1f}%" if as_percent else f"{number(low, digits)} to {number(high, digits)}"


def _anchor(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())


def _breakable(text: object) -> Markup:
    """The text, which may be broken after slashes, as in paths."""
    return Markup("/<wbr>").join(str(text).split("/"))


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as pairs of `section.name` and value, without credentials in URIs."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _plain(value)


def _plain(value: Any) -> str:
    if value is None or value in ((), [], "") or value == {}:
        return _UNKNOWN
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else without_secrets(str(value))
