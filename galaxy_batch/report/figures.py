"""Charts as SVG elements: small enough to be part of a page, sharp on screen and paper.

Each is a pure function from numbers to text. What comes from data is escaped; what cannot be seen is said in the
drawing's label. Colours are Okabe & Ito's, which colour-blind readers tell apart.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import numpy.typing as npt

__all__ = ["BLUE", "GREY", "INK", "PALE", "VERMILION", "bars", "curve", "histograms", "round_ticks", "svg", "text"]

BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
INK, GREY, PALE = "#222222", "#767676", "#DDDDDD"
_CLASS_COLOURS = (ORANGE, GREEN, PURPLE, SKY)
_WIDTH = 940  # of a drawing; units are about pixels
_SMALL = 12.5


def svg(width: float, height: float, label: str, *parts: str) -> str:
    """A drawing, with a label for those who do not see it.

    Args:
        width: in the units of the parts; the page scales it.
        height: likewise.
        label: what it shows, in words.
        parts: SVG elements.
    """
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(label)}" font-family="system-ui, sans-serif" font-size="{_SMALL}">'
        f"{''.join(parts)}</svg>"
    )


def text(x: float, y: float, words: str, anchor: str = "start", style: str = f'fill="{INK}"') -> str:
    """Words at a place; `anchor` is start, middle or end, `style` further attributes."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {style}>{escape(words)}</text>'


def bars(rows: Sequence[tuple[str, int]]) -> str:
    """Counts as horizontal bars, each with its number and its share of all."""
    total, most = sum(count for _, count in rows), max([1, *(count for _, count in rows)])
    left, room, step = 190.0, _WIDTH - 190.0 - 170.0, 30.0
    parts = []
    for place, (name, count) in enumerate(rows):
        y, length = place * step + 4, room * count / most
        share = f" ({count / total:.1%})" if total else ""
        parts += [
            text(left - 10, y + 15, _short(name, 28), "end"),
            _box(left, y, length, 20, BLUE),
            text(left + length + 8, y + 15, f"{count:,}{share}"),
        ]
    return svg(_WIDTH, len(rows) * step + 4, "; ".join(f"{name}: {count:,}" for name, count in rows), *parts)


def histograms(
    panels: Mapping[str, npt.NDArray[np.int64]], low: float, mark: float | None = None, label: str = "confidence"
) -> str:
    """Histograms over `low` to 1 below each other, each on its own scale.

    Args:
        panels: counts ``(bins,)`` of equal bins, by title.
        low: where the first bin begins; the last ends at 1.
        mark: a value to mark with a dashed line.
        label: of the axis.
    """
    left, right, top, high, gap = 74.0, 20.0, 26.0, 120.0, 52.0
    width, parts = _WIDTH - left - right, []

    def x(value: float) -> float:
        return left + width * (value - low) / (1 - low)

    for place, (title, counts) in enumerate(panels.items()):
        base, colour = top + place * (high + gap) + high, _CLASS_COLOURS[place % len(_CLASS_COLOURS)]
        most = max(1, int(counts.max(initial=0)))
        ticks = round_ticks(0, most, 3)
        parts += [_line(left, base - high * t / most, _WIDTH - right, base - high * t / most, PALE) for t in ticks]
        parts += [text(left - 8, base - high * t / most + 4, f"{t:,.0f}", "end") for t in ticks if t == int(t)]
        edges = np.linspace(low, 1, len(counts) + 1)
        parts += [
            _box(x(begin) + 0.5, base - high * count / most, x(end) - x(begin) - 1, high * count / most, colour)
            for begin, end, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True)
            if count
        ]
        parts.append(_line(left, base, _WIDTH - right, base, INK))
        parts.append(text(left, base - high - 8, f"{_short(title, 60)}: {int(counts.sum()):,}", style=_BOLD))
        parts += [text(x(t), base + 16, f"{t:g}", "middle") for t in round_ticks(low, 1, 8)]
        if mark is not None and low <= mark <= 1:
            parts.append(_line(x(mark), base - high, x(mark), base, INK, dashed=True))
    height = top + len(panels) * (high + gap) - 8
    parts.append(text(left + width / 2, height - 4, label, "middle"))
    described = "; ".join(f"{title}: {_shape(counts, low)}" for title, counts in panels.items())
    return svg(_WIDTH, height, f"Histograms of {label}. {described}", *parts)


def curve(
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    x_label: str,
    y_label: str,
    marks: Mapping[str, tuple[float, float]],
) -> str:
    """A line through shares of 1, drawn as percent.

    Args:
        x: ``(N,)``, rising.
        y: ``(N,)``.
        x_label: what `x` is.
        y_label: what `y` is.
        marks: further points to mark, by what they are.
    """
    left, top, width, height = 74.0, 14.0, _WIDTH - 94.0, 250.0
    low = math.floor(20 * min([*y.tolist(), *(b for _, b in marks.values()), 0.95])) / 20

    def at(a: float, b: float) -> tuple[float, float]:
        return left + width * a, top + height * (1 - (b - low) / (1 - low))

    parts = [_line(*at(0, t), *at(1, t), PALE) for t in round_ticks(low, 1, 5)]
    parts += [text(left - 8, at(0, t)[1] + 4, f"{100 * t:g}%", "end") for t in round_ticks(low, 1, 5)]
    parts += [text(at(t, 0)[0], top + height + 18, f"{100 * t:g}%", "middle") for t in round_ticks(0, 1, 10)]
    parts += [_line(*at(0, low), *at(1, low), INK)]
    points = " ".join("{:.1f},{:.1f}".format(*at(a, b)) for a, b in zip(x.tolist(), y.tolist(), strict=True))
    parts.append(f'<polyline points="{points}" fill="none" stroke="{BLUE}" stroke-width="2.2"/>')
    for name, (a, b) in marks.items():
        px, py = at(a, b)
        parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="5.5" fill="{VERMILION}"/>')
        parts.append(text(px + (-12 if a > 0.6 else 12), py + 20, name, "end" if a > 0.6 else "start"))
    parts.append(text(left + width / 2, top + height + 40, x_label, "middle"))
    parts.append(text(left + 6, top + 12, y_label, style=_BOLD))
    said = "; ".join(f"{name}: {a:.1%} and {b:.1%}" for name, (a, b) in marks.items())
    return svg(_WIDTH, top + height + 48, f"{y_label}, against {x_label}. {said}", *parts)


def round_ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from `low` to `high`, both included where they are round, some `about` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


_BOLD = f'fill="{INK}" font-weight="600"'


def _box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.1):.1f}" height="{height:.1f}" fill="{colour}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dashes}/>'


def _shape(counts: npt.NDArray[np.int64], low: float) -> str:
    """A histogram in words: how many, and where the middle is."""
    total = int(counts.sum())
    if not total:
        return "no galaxies"
    middle = int(np.searchsorted(np.cumsum(counts), total / 2))
    width = (1 - low) / len(counts)
    return f"{total:,} galaxies, half of them under {low + (middle + 1) * width:.2f}"


def _short(words: str, longest: int) -> str:
    return words if len(words) <= longest else words[: longest - 1] + "…"
