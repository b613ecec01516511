"""One HTML page that needs nothing but itself: text, tables, and figures as part of the file."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from galaxy_batch.errors import without_secrets

__all__ = [
    "Album",
    "Tile",
    "cards",
    "code",
    "drawing",
    "note",
    "number",
    "page",
    "paragraph",
    "percent",
    "range_of",
    "section",
    "settings",
    "side_by_side",
    "table",
    "tiles",
]

_STYLE = """
:root { --ink: #1f2328; --soft: #59636e; --line: #d8dee4; --tint: #f6f8fa; --accent: #0072B2; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: white; font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Noto Sans",
  "DejaVu Sans", sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .35rem; }
h2 { font-size: 1.35rem; margin: 3.2rem 0 .8rem; padding-top: 1rem; border-top: 2px solid var(--ink); }
h3 { font-size: 1.02rem; margin: 1.8rem 0 .4rem; }
p { max-width: 46rem; margin: .6rem 0; }
.about, figcaption, .card small, nav { color: var(--soft); }
.about { margin: 0; }
code, .about b { font: .92em ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
nav { margin: 1.2rem 0 0; font-size: .88rem; }
nav a { color: var(--accent); text-decoration: none; margin-right: .8rem; white-space: nowrap; }
.cards { display: grid; grid-template-columns: repeat(3, 1fr); gap: .8rem; margin: 1.6rem 0 1.2rem; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; background: var(--tint); }
.card span { display: block; font-size: .88rem; }
.card b { display: block; font-size: 1.75rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.card small { display: block; font-size: .82rem; line-height: 1.4; }
.note { border-left: 4px solid #E69F00; background: #fdf6e7; padding: .6rem 1rem; border-radius: 0 6px 6px 0; }
figure { margin: 1.2rem 0 1.8rem; }
figure img { display: block; max-width: 100%; height: auto; }
figure > svg { display: block; width: 100%; height: auto; }
figcaption { font-size: .9rem; margin-top: .4rem; max-width: 46rem; }
pre { background: var(--tint); border: 1px solid var(--line); border-radius: 6px; padding: .7rem 1rem; margin: .8rem 0;
  font-size: .88rem; line-height: 1.45; white-space: pre-wrap; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(8, 1fr); gap: .5rem .35rem; margin: .6rem 0 1.2rem; }
.tiles figure { margin: 0; min-width: 0; }
.tiles img, .tiles .blank { width: 100%; aspect-ratio: 1; border-radius: 3px; background: #111; }
.tiles .blank { display: flex; align-items: center; justify-content: center; text-align: center; padding: .3rem;
  background: var(--tint); border: 1px dashed #8c959f; color: var(--soft); font-size: .72rem; line-height: 1.25;
  overflow-wrap: anywhere; overflow: hidden; }
.tiles figcaption { font-size: .575rem; letter-spacing: -.02em; line-height: 1.35; margin-top: .2rem;
  overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
.tabled { margin: 1.1rem 0 1.5rem; }
.legend { font-size: .9rem; color: var(--soft); margin: .45rem 0 0; }
.beside { display: flex; flex-wrap: wrap; column-gap: 2.5rem; align-items: flex-start; }
.beside > * { flex: 0 1 auto; max-width: 27rem; }
table { border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; }
th, td { padding: .32rem 1.1rem .32rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th { font-weight: 600; vertical-align: bottom; border-bottom: 1.5px solid var(--ink); }
th:first-child, td:first-child, .text th, .text td { text-align: left; }
.text th { display: none; }
.text { font-size: .86rem; }
.text td { vertical-align: top; overflow-wrap: anywhere; padding-block: .2rem; }
.text td:first-child { white-space: nowrap; color: var(--soft); }
@media (max-width: 640px) { .cards { grid-template-columns: repeat(2, 1fr); }
  .tiles { grid-template-columns: repeat(4, 1fr); } }
@media print { nav { display: none; } figure, .cards, table, pre { break-inside: avoid; }
  h2, h3 { break-after: avoid; } * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  body { font-size: 11pt; } main { padding: 0; max-width: none; } }
"""


class Album:
    """The figures of a page: each goes into the page, and is kept as a file of its own."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        """PNG by file name, in the order of the page."""

    def figure(self, name: str, png: bytes, caption: str) -> str:
        """A figure with a caption that says how to read it."""
        self.files[f"{name}.png"] = png
        source = base64.b64encode(png).decode("ascii")
        return (
            f'<figure><img src="data:image/png;base64,{source}" alt="{escape(name.replace("_", " "))}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>\n"
        )


@dataclass(frozen=True)
class Tile:
    """One picture of a contact sheet."""

    picture: bytes | None
    """JPEG; None where it could not be had."""
    alt: str
    """What it shows, for those who do not see it."""
    caption: tuple[str, ...] = ()
    """Lines under it."""
    reason: str = "no picture"
    """Stands in the place of a picture that could not be had."""


def page(title: str, about: Sequence[tuple[str, str]], opening: str, sections: Mapping[str, str]) -> str:
    """A whole page.

    Args:
        title: of the page.
        about: what and value, in one line under the title.
        opening: HTML above the first section.
        sections: HTML by heading.
    """
    facts = " · ".join(f"{escape(what)} <b>{escape(value)}</b>" for what, value in about)
    links = "".join(f'<a href="#{_anchor(name)}">{escape(name)}</a> ' for name in sections)
    body = "".join(f'<h2 id="{_anchor(name)}">{escape(name)}</h2>\n{html}' for name, html in sections.items())
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{escape(title)}</h1>\n<p class="about">{facts}</p>\n<nav>{links}</nav>\n{opening}{body}'
        "</main>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A part of a section under a small heading."""
    return f"<h3>{escape(title)}</h3>\n{''.join(parts)}"


def paragraph(*sentences: str) -> str:
    """Sentences of plain text; empty ones are left out."""
    return f"<p>{escape(' '.join(s for s in sentences if s))}</p>\n"


def note(text: str) -> str:
    """A warning that must not be overlooked."""
    return f'<p class="note">{escape(text)}</p>\n'


def cards(items: Sequence[tuple[str, str, str]]) -> str:
    """Headline numbers: name, number, and a remark on each."""
    shown = "".join(
        f'<div class="card"><span>{escape(name)}</span><b>{escape(value)}</b><small>{escape(remark)}</small></div>\n'
        for name, value, remark in items
    )
    return f'<div class="cards">\n{shown}</div>\n'


def table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "", text: bool = False) -> str:
    """A table; all but the first column are numbers, unless it is a table of text."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    below = f'<p class="legend">{escape(caption)}</p>' if caption else ""
    kind = ' class="text"' if text else ""
    return (
        f'<div class="tabled"><div class="scroll"><table{kind}><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>{below}</div>\n"
    )


def settings(values: Mapping[str, Any]) -> str:
    """Nested settings as a table of text: name and value, `section.name` within sections; no credentials in URIs."""
    return table(["setting", "value"], _flat(values), text=True)


def code(text: str) -> str:
    """Text to copy, line by line as it is."""
    return f"<pre><code>{escape(text)}</code></pre>\n"


def drawing(svg: str, caption: str) -> str:
    """A drawing (an `<svg>` element, which is not escaped) with a caption that says how to read it."""
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>\n"


def tiles(pictures: Sequence[Tile], none: str = "none") -> str:
    """A contact sheet of small pictures; without any, a word that says so."""
    return f'<div class="tiles">\n{"".join(map(_tile, pictures))}</div>\n' if pictures else paragraph(none)


def side_by_side(*parts: str) -> str:
    """Tables and figures next to each other where the page is wide enough."""
    return f'<div class="beside">\n{"".join(parts)}</div>\n'


def percent(share: float) -> str:
    """A share of 1 as percent; a dash where it is not known."""
    return "–" if math.isnan(share) else f"{share:.1%}"


def number(value: float, digits: int = 3) -> str:
    """A number with so many decimals; a dash where it is not known."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def range_of(interval: tuple[float, float], digits: int = 3, as_percent: bool = False) -> str:
    """An interval, as text; a dash where it is not known."""
    low, high = interval
    if math.isnan(low) or math.isnan(high):
        return "–"
    if as_percent:
        return f"{100 * low:.1f}–{100 * high:.1f}%"
    return f"{number(low, digits)} to {number(high, digits)}"


def _tile(tile: Tile) -> str:
    shown = f'<div class="blank" role="img" aria-label="{escape(tile.alt)}">{escape(tile.reason)}</div>'
    if tile.picture is not None:
        source = base64.b64encode(tile.picture).decode("ascii")
        shown = f'<img src="data:image/jpeg;base64,{source}" alt="{escape(tile.alt)}">'
    lines = "<br>".join(escape(line) for line in tile.caption)
    return f"<figure>{shown}<figcaption>{lines}</figcaption></figure>\n"


def _flat(values: Mapping[str, Any], above: str = "") -> list[list[str]]:
    """Nested settings as rows of name and value."""
    rows: list[list[str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += _flat(value, f"{above}{name}.")
        else:
            rows.append([f"{above}{name}", _plain(value)])
    return rows


def _plain(value: Any) -> str:
    if value is None or value in ((), [], "") or value == {}:
        return "–"
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return without_secrets(str(value))


def _anchor(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())
