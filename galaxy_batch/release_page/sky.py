"""Maps of a release: density of the galaxies, and share of one class."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import LogLocator

from galaxy_batch.release_page.counts import SKY_ORDER, ReleaseCounts, mapped_class
from galaxy_batch.report.figures import COUNT_COLOURS, PERCENT, embed
from galaxy_batch.report.page import percent
from galaxy_batch.report.sky_map import SkyRegion, draw_sky, order_for, region_for
from galaxy_batch.sky.healpix import BASE_PIXELS, coarser

__all__ = ["sky_maps"]

_GALAXIES_IN_DENSITY_CELL = 3  # on average
_GALAXIES_IN_SHARE_CELL = 25  # on average
_MIN_GALAXIES = 10  # in a cell, for its share to be drawn
_SKY_DEG2 = 360.0**2 / math.pi


def sky_maps(counts: ReleaseCounts) -> dict[str, Any] | None:
    """Both maps and the numbers of their captions; None where no row has a position."""
    rows = int(counts.sky.sum())
    if not rows:
        return None
    region = region_for(counts.sky)
    order = order_for(counts.sky, _GALAXIES_IN_DENSITY_CELL, region)
    cells = coarser(counts.sky, SKY_ORDER - order)
    density = np.where(cells > 0, cells / _cell_deg2(order), np.nan)
    low, high = float(np.nanmin(density)), float(np.nanmax(density))
    if high < 1.5 * low:
        low, high = low / 1.5, high * 1.5
    colours, label = (COUNT_COLOURS, LogNorm(low, high)), "galaxies per square degree"
    ticks = LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,))
    drawing = embed(
        lambda width_px: draw_sky(width_px, density, region, colours, label, ticks=ticks, format="{x:,g}"),
        "Map of the density of galaxies",
        "sky",
    )
    occupied = int(np.count_nonzero(cells))
    return {
        "rows": rows,
        "without_position": counts.rows - rows,
        "area_deg2": _two_digits(occupied * _cell_deg2(order)),
        "projection": region.projection,
        "of_class": mapped_class(counts.classes),
        "min_galaxies": _MIN_GALAXIES,
        "density": {"drawing": drawing, "cells": occupied, "order": order, "side": _cell_side(order)},
        "share": _share_map(counts, region) if counts.sky_classified.any() else None,
    }


def _share_map(counts: ReleaseCounts, region: SkyRegion) -> dict[str, Any]:
    """Share of the mapped class; colours are centred on the overall share."""
    rows, name = int(counts.sky_classified.sum()), mapped_class(counts.classes)
    order = order_for(counts.sky_classified, _GALAXIES_IN_SHARE_CELL, region)
    total, of_class = (coarser(sky, SKY_ORDER - order) for sky in (counts.sky_classified, counts.sky_of_class))
    overall, enough = float(of_class.sum() / rows), total >= _MIN_GALAXIES
    masked = (total > 0) & ~enough
    shares = np.where(enough, of_class / np.maximum(total, 1), np.nan)
    reach = _reach(shares[enough], total[enough], overall)
    colours = colormaps["RdBu"], Normalize(overall - reach, overall + reach)
    label = f"share of “{name}”"

    def draw(width_px: int) -> Any:
        figure = draw_sky(width_px, shares, region, colours, label, masked, format=PERCENT)
        figure.axes[-1].set_xlim(max(0.0, overall - reach), min(1.0, overall + reach))
        return figure

    return {
        "drawing": embed(draw, f"Map of the share of class {name}; {percent(overall)} overall", "sky"),
        "rows": rows,
        "overall": overall,
        "order": order,
        "side": _cell_side(order),
        "cells": int(np.count_nonzero(total)),
        "masked": int(masked.sum()),
        "scatter": _scatter(of_class[enough], total[enough], overall),
        "scatter_limit": 1 + 2 / math.sqrt(2 * max(int(enough.sum()) - 1, 1)),
    }


def _reach(shares: npt.NDArray[np.float64], total: npt.NDArray[np.int64], overall: float) -> float:
    """Half the range of the colours: three standard errors of a typical cell, or 96% of the cells, if that is more."""
    if not len(shares):
        return 0.05
    error = math.sqrt(overall * (1 - overall) / float(np.median(total)))
    return max(0.05, 3 * error, float(np.abs(np.quantile(shares, [0.02, 0.98]) - overall).max()))


def _scatter(hits: npt.NDArray[np.int64], total: npt.NDArray[np.int64], share: float) -> float | None:
    """Scatter of the cells' shares over the binomial one, the root of the reduced χ²; None for fewer than 5 cells."""
    if len(total) < 5 or not 0 < share < 1:
        return None
    chi2 = float(((hits - share * total) ** 2 / (share * (1 - share) * total)).sum())
    return math.sqrt(chi2 / (len(total) - 1))


def _cell_deg2(order: int) -> float:
    return _SKY_DEG2 / (BASE_PIXELS << 2 * order)


def _cell_side(order: int) -> str:
    side = math.sqrt(_cell_deg2(order))
    return f"{side:.2g}°" if side >= 1 else f"{60 * side:.2g}′"


def _two_digits(value: float) -> str:
    """Rounded to two significant digits: 41,000, 0.52."""
    digits = 1 - math.floor(math.log10(value))
    return f"{round(value, digits):,.{max(digits, 0)}f}"
