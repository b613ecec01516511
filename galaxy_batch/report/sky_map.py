"""The sky on paper: values of HEALPix cells as an SVG drawing, RA growing to the left, as astronomers draw it.

Each pixel of the drawing is projected back to the sky and takes the colour of its cell, so that poles and the meridian
RA 0 need no care.
"""

import base64
import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from galaxy_batch.report.figures import GREY, INK, svg, text
from galaxy_batch.report.projections import Projection
from galaxy_batch.sky.healpix import BASE_PIXELS, coarser, pixels_at

__all__ = ["Ramp", "draw_sky", "order_for"]

Array = npt.NDArray[np.float64]
Colour = tuple[int, int, int]

_PIXELS = 1000  # of the drawing, across
_MASKED: Colour = (205, 205, 205)
_HALO = f'fill="{INK}" stroke="white" stroke-width="3" paint-order="stroke" font-size="13"'


@dataclass(frozen=True)
class Ramp:
    """Colours for numbers from `low` to `high`: between a few colours, in even steps."""

    low: float
    high: float
    colours: tuple[Colour, ...]
    ticks: tuple[tuple[float, str], ...]
    """Numbers named at the bar, and their names."""
    label: str

    def place(self, values: Array) -> Array:
        """0 at `low`, 1 at `high`."""
        return np.clip((values - self.low) / max(self.high - self.low, 1e-12), 0, 1)

    def paint(self, values: Array) -> npt.NDArray[np.uint8]:
        """Colours ``(…, 3)`` of values ``(…)``."""
        stops = np.linspace(0, 1, len(self.colours))
        channels = [np.interp(self.place(values), stops, [c[i] for c in self.colours]) for i in range(3)]
        return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def order_for(rows: npt.NDArray[np.int32], wanted: float, projection: Projection) -> int:
    """The finest order whose cells with galaxies hold `wanted` of them on average, and can be seen in the drawing.

    Args:
        rows: galaxies in each cell of the finest order that there is, ``(12 · 4^order,)``, nested.
        wanted: galaxies in a cell.
        projection: cells are drawn at least three pixels wide.
    """
    finest = (len(rows) // BASE_PIXELS).bit_length() // 2
    side = 3 * projection.width / _PIXELS  # areas are true on all maps: the sphere of radius 1
    sharpest = math.floor(math.log2(math.sqrt(4 * math.pi / BASE_PIXELS) / side))
    for order in range(min(finest, max(sharpest, 0)), 0, -1):
        cells = coarser(rows, finest - order)
        if cells.any() and cells.sum() >= wanted * np.count_nonzero(cells):
            return order
    return 0


def draw_sky(values: Array, masked: npt.NDArray[np.bool_], ramp: Ramp, projection: Projection, label: str) -> str:
    """A map of the sky, with a grid in degrees and a bar of colours.

    Args:
        values: of each cell, ``(12 · 4^order,)``, nested; nan where there is nothing to draw.
        masked: cells to be drawn in grey, since too little is known of them, ``(12 · 4^order,)``.
        ramp: colours of the values.
        projection: which part of the sky, and how.
        label: what the map shows, in words.
    """
    margin = 46.0
    across = float(_PIXELS) if projection.width > projection.height else 620.0
    down = across * projection.height / projection.width
    left = (_PIXELS - across) / 2 + margin
    picture = base64.b64encode(_raster(values, masked, ramp, projection)).decode("ascii")
    image = (
        f'<image x="{left:.1f}" y="{margin}" width="{across:.1f}" height="{down:.1f}" '
        f'href="data:image/png;base64,{picture}"/>'
    )
    frame = (
        f'<ellipse cx="{left + across / 2:.1f}" cy="{margin + down / 2:.1f}" rx="{across / 2:.1f}" '
        f'ry="{down / 2:.1f}" fill="none" stroke="{INK}" stroke-width="1.2"/>'
    )
    scale = across / projection.width
    grid = _grid(projection, lambda x, y: (left + across / 2 - scale * x, margin + down / 2 - scale * y))
    bar = _bar(ramp, margin + _PIXELS / 2 - 200, margin + down + 54)
    return svg(_PIXELS + 2 * margin, margin + down + 108, label, image, frame, grid, bar)


def _raster(values: Array, masked: npt.NDArray[np.bool_], ramp: Ramp, projection: Projection) -> bytes:
    """The map as PNG; transparent where there is nothing."""
    wide, high = _PIXELS, round(_PIXELS * projection.height / projection.width)
    x = -((np.arange(wide) + 0.5) / wide - 0.5) * projection.width  # RA grows to the left
    y = (0.5 - (np.arange(high) + 0.5) / high) * projection.height
    ra, dec = (degrees.ravel() for degrees in projection.inverse(*np.meshgrid(x, y)))
    on_sky = np.flatnonzero(~np.isnan(ra))
    order = (len(values) // BASE_PIXELS).bit_length() // 2
    cells = pixels_at(ra[on_sky], dec[on_sky], order)
    pixels = np.zeros((high * wide, 4), np.uint8)
    for where, colours in (
        (~np.isnan(values[cells]) & ~masked[cells], ramp.paint(np.nan_to_num(values[cells]))),
        (masked[cells], np.full((len(cells), 3), _MASKED, np.uint8)),
    ):
        pixels[on_sky[where], :3], pixels[on_sky[where], 3] = colours[where], 255
    sink = io.BytesIO()
    Image.fromarray(pixels.reshape(high, wide, 4)).save(sink, "PNG", optimize=True)
    return sink.getvalue()


def _grid(projection: Projection, to_page: Callable[[Array, Array], tuple[Array, Array]]) -> str:
    """Meridians and parallels with their degrees."""
    lines, names = [], []
    middle_x, middle_y = to_page(np.zeros(1), np.zeros(1))
    for line in projection.grid():
        x, y = to_page(line.x, line.y)
        seen = np.flatnonzero(~np.isnan(x))
        pieces = np.split(seen, np.flatnonzero(np.diff(seen) > 1) + 1)
        path = "".join("M" + "L".join(f"{x[i]:.1f} {y[i]:.1f}" for i in piece) for piece in pieces if len(piece))
        lines.append(f'<path d="{path}"/>')
        px, py = float(x[line.named_at]), float(y[line.named_at])
        if line.outside:
            away = math.hypot(px - middle_x[0], py - middle_y[0]) or 1.0
            px, py = px + 20 * (px - middle_x[0]) / away, py + 16 * (py - middle_y[0]) / away + 4
        else:
            py -= 5
        names.append(text(px, py, line.words, "middle", _HALO))
    strokes = (("white", 0.45, 2.0), (INK, 0.5, 0.7))  # to be seen on light and on dark cells
    drawn = [
        f'<g fill="none" stroke="{colour}" stroke-opacity="{opacity}" stroke-width="{width}">{"".join(lines)}</g>'
        for colour, opacity, width in strokes
    ]
    return "".join(drawn + names)


def _bar(ramp: Ramp, left: float, top: float) -> str:
    """What the colours mean."""
    width, height = 400.0, 14.0
    name = f"ramp-{'-'.join('{:02x}{:02x}{:02x}'.format(*colour) for colour in ramp.colours)}"
    stops = "".join(
        f'<stop offset="{place:.4f}" stop-color="rgb{colour}"/>'
        for place, colour in zip(np.linspace(0, 1, len(ramp.colours)), ramp.colours, strict=True)
    )
    parts = [
        f'<defs><linearGradient id="{name}">{stops}</linearGradient></defs>',
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="url(#{name})" stroke="{GREY}"/>',
        text(left + width / 2, top - 8, ramp.label, "middle"),
    ]
    for value, words in ramp.ticks:
        x = left + width * float(ramp.place(np.array(value)))
        parts.append(f'<line x1="{x:.1f}" y1="{top + height}" x2="{x:.1f}" y2="{top + height + 5}" stroke="{INK}"/>')
        parts.append(text(x, top + height + 19, words, "middle"))
    return "".join(parts)
