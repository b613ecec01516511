"""Figures of a comparison of two catalogs, each a pure function from numbers to the bytes of a PNG."""

from collections.abc import Mapping

import astropy.units as u
import numpy as np
import numpy.typing as npt
from astropy_healpix import lonlat_to_healpix
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from matplotlib.ticker import FuncFormatter

from galaxy_batch.compare.class_mix import Mix
from galaxy_batch.compare.drift import HISTOGRAM_BINS, Shift
from galaxy_batch.report.style import BLUE, INK, VERMILION, label_axes, png_bytes

__all__ = ["distributions", "mix_by_bins", "old_against_new", "sky_map"]

Array = npt.NDArray[np.float64]

_WIDTH_IN = 9.0
_COLUMNS = 3
_SMALL = 8.5
_GREY, _PALE, _EMPTY = "#767676", "#CCCCCC", "#E8E8E8"
_MARKS = ("o", "s", "^", "D", "v", "P")
_COLOURS = ("#E69F00", "#009E73", "#CC79A7", "#56B4E9", BLUE, VERMILION)
_POINTS = FuncFormatter(lambda share, _: f"{100 * share:+g}".replace("-", "−"))
_CENTRE_DEG = 180.0  # of the map: most surveys lie away from RA 0


def distributions(shifts: Mapping[str, Shift]) -> bytes:
    """Old and new distribution of the confidence and of each probability, a panel for each."""
    figure, panels = _panels(len(shifts), 2.5)
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    for number, (axis, (name, shift)) in enumerate(zip(panels, shifts.items(), strict=True)):
        for counts, colour, style, side in (
            (shift.old_histogram, BLUE, "-", "old"),
            (shift.new_histogram, VERMILION, "--", "new"),
        ):
            shares = counts / max(counts.sum(), 1)
            axis.stairs(shares, edges, color=colour, linewidth=1.6, linestyle=style, label=side)
        label_axes(axis, name, "share of the rows" if number % _COLUMNS == 0 else "")
        axis.set_xlim(0, 1)
        axis.set_ylim(0, None)
        axis.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    panels[0].legend(frameon=False, fontsize=_SMALL, loc="upper left")
    return png_bytes(figure)


def old_against_new(shifts: Mapping[str, Shift]) -> bytes:
    """Objects in both catalogs by old and new value, a panel for each; on the diagonal nothing changed."""
    figure, panels = _panels(len(shifts), 2.9)
    highest = max(int(shift.joint_histogram.max()) for shift in shifts.values())
    for number, (axis, (name, shift)) in enumerate(zip(panels, shifts.items(), strict=True)):
        shown = np.ma.masked_equal(shift.joint_histogram.T, 0)
        drawn = axis.imshow(
            shown, origin="lower", extent=(0, 1, 0, 1), cmap="viridis_r", norm=LogNorm(1, max(highest, 2)),
            interpolation="nearest",
        )  # fmt: skip
        axis.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8, linestyle="--")
        label_axes(axis, f"{name}, old", f"{name}, new")
        if number == len(shifts) - 1:
            bar = figure.colorbar(drawn, ax=panels, shrink=0.8)
            bar.set_label("objects", fontsize=_SMALL)
            bar.ax.tick_params(labelsize=_SMALL)
    return png_bytes(figure)


def mix_by_bins(mix: Mix, classes: Mapping[str, int]) -> bytes:
    """Change of the classes' shares in the bins of a column, with 95 % intervals.

    Args:
        mix: with bins for groups.
        classes: which are drawn, and their position in the mix.
    """
    figure = Figure(figsize=(_WIDTH_IN, 3.1), layout="constrained")
    axis = figure.subplots()
    places = np.arange(len(mix.groups))
    axis.axhline(0, color=_GREY, linewidth=1)
    for number, (name, place) in enumerate(classes.items()):
        aside = (number - (len(classes) - 1) / 2) * 0.5 / len(classes)
        axis.errorbar(
            places + aside, mix.difference[:, place], yerr=1.96 * mix.error[:, place],
            fmt=_MARKS[number % len(_MARKS)], color=_COLOURS[number % len(_COLOURS)], markersize=5, elinewidth=1.4,
            capsize=2, label=name,
        )  # fmt: skip
    label_axes(axis, mix.of, "new less old share (points)")
    axis.set_xticks(places, mix.groups, rotation=20 if len(mix.groups) > 6 else 0, fontsize=_SMALL)
    axis.yaxis.set_major_formatter(_POINTS)
    axis.legend(frameon=False, fontsize=_SMALL, ncols=len(classes), loc="lower left", bbox_to_anchor=(0, 1))
    return png_bytes(figure)


def sky_map(mix: Mix, number: int, name: str) -> bytes:
    """Change of one class's share in the cells of the sky, in Hammer's (1892) equal-area projection, east to the left.

    Args:
        mix: with cells for groups.
        number: which class.
        name: what it is called.
    """
    figure = Figure(figsize=(_WIDTH_IN, 4.6), layout="constrained")
    axis = figure.subplots()
    values = np.full((12 << 2 * (mix.order or 0)) + 1, np.nan)  # the last one is what lies beside the sky
    values[[int(cell) for cell in mix.groups]] = mix.difference[:, number]
    limit = max(float(np.nanmax(np.abs(mix.difference[:, number]))), 0.01)
    drawn = axis.imshow(
        values[_cells(mix.order or 0)], extent=(-2, 2, -1, 1), origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit,
        interpolation="nearest",
    )  # fmt: skip
    axis.add_patch(Ellipse((0, 0), 4, 2, facecolor=_EMPTY, edgecolor="none", zorder=-1))
    _graticule(axis)
    bar = figure.colorbar(drawn, ax=axis, orientation="horizontal", shrink=0.5, aspect=35, pad=0.02, format=_POINTS)
    bar.set_label(f"“{name}”: new less old share (points)", fontsize=_SMALL, color=INK)
    bar.ax.tick_params(labelsize=_SMALL, colors=INK)
    return png_bytes(figure)


def _panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """Panels in rows of three."""
    rows, columns = -(-count // _COLUMNS), min(count, _COLUMNS)
    figure = Figure(figsize=(_WIDTH_IN * columns / _COLUMNS, height * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for unused in grid[count:]:
        unused.set_axis_off()
    return figure, grid[:count]


def _cells(order: int) -> npt.NDArray[np.int64]:
    """The cell under each pixel of the map, ``(450, 900)``; one more than there are beside the sky."""
    x, y = np.meshgrid(np.linspace(-2, 2, 900), np.linspace(-1, 1, 450))
    inside = x**2 / 4 + y**2 < 1
    z = np.sqrt(np.maximum(1 - (x**2 / 4 + y**2) / 2, 0.5))
    east = np.degrees(2 * np.arctan2(z * x / np.sqrt(2), 2 * z**2 - 1))
    dec = np.degrees(np.arcsin(np.clip(z * y * np.sqrt(2), -1, 1)))
    cells = lonlat_to_healpix((_CENTRE_DEG - east) % 360 * u.deg, dec * u.deg, 2**order, order="nested")
    return np.where(inside, cells, 12 << 2 * order)


def _project(ra: Array, dec: Array) -> tuple[Array, Array]:
    """Positions in degrees on the map, where the whole sky is an ellipse of half-axes 2 and 1."""
    half, latitude = np.radians(_CENTRE_DEG - ra) / 2, np.radians(dec)
    scale = np.sqrt(1 + np.cos(latitude) * np.cos(half))
    return 2 * np.cos(latitude) * np.sin(half) / scale, np.sin(latitude) / scale


def _graticule(axis: Axes) -> None:
    """Meridians and parallels every 30 degrees, labelled on the equator and at the left."""
    along = np.linspace(-90, 90, 91)
    for ra in np.arange(0, 361, 30):
        edge = ra in (0, 360)
        axis.plot(*_project(np.full(91, float(ra)), along), color=_GREY if edge else _PALE, lw=0.9 if edge else 0.6)
        if not edge:
            x, y = _project(np.array([float(ra)]), np.zeros(1))
            axis.text(x[0], y[0] + 0.02, f"{ra}°", fontsize=7, color=_GREY, ha="center")
    for dec in np.arange(-60, 61, 30):
        axis.plot(*_project(np.linspace(0, 360, 181), np.full(181, float(dec))), color=_PALE, lw=0.6)
        x, y = _project(np.array([360.0]), np.array([float(dec)]))
        axis.text(x[0] - 0.03, y[0], f"{dec:+d}°".replace("-", "−"), fontsize=7, color=_GREY, ha="right", va="center")
    axis.set(xlim=(-2.2, 2.1), ylim=(-1.05, 1.05), aspect="equal")
    axis.set_axis_off()
