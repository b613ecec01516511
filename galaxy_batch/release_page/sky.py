"""The sky section of a release's page: where the galaxies are, and what share of them is of one class."""

import math

import numpy as np
import numpy.typing as npt

from galaxy_batch.release_page.counts import SKY_ORDER, ReleaseCounts, mapped_class
from galaxy_batch.report.figures import round_ticks
from galaxy_batch.report.html import drawing, paragraph, percent, section
from galaxy_batch.report.projections import projection_for
from galaxy_batch.report.sky_map import Ramp, draw_sky, order_for
from galaxy_batch.sky.healpix import BASE_PIXELS, coarser

__all__ = ["sky_section"]

_IN_A_CELL = 3  # galaxies, on average, in the cells of the map of density
_FOR_A_SHARE = 25  # likewise in those of the map of a share
_TOO_FEW = 10  # galaxies in a cell, for a share that means something
_SKY_DEG2 = 360.0**2 / math.pi
_DENSITY = ((222, 235, 246), (134, 186, 222), (44, 119, 181), (8, 48, 92))
_SHARES = ((213, 94, 0), (244, 178, 120), (247, 247, 243), (118, 180, 219), (0, 95, 155))


def sky_section(counts: ReleaseCounts) -> str:
    """Where the galaxies are, and what share of them is of one class, across the sky."""
    placed = int(counts.sky.sum())
    lost = counts.rows - placed
    if not placed:
        return paragraph("No row has a position, so there is no map.")
    projection = projection_for(counts.sky)
    order = order_for(counts.sky, _IN_A_CELL, projection)
    cells = coarser(counts.sky, SKY_ORDER - order)
    density = np.where(cells > 0, cells / _cell_deg2(order), np.nan)
    ramp = _density_ramp(density)
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithm = np.log10(density)
    seen = np.count_nonzero(cells)
    caption = (
        f"{placed:,} galaxies in {seen:,} HEALPix cells of order {order}, {_cell_side(order)} wide: about "
        f"{_rounded(seen * _cell_deg2(order))} square degrees. {projection.name}, ICRS; RA grows to the left."
    )
    return (
        (paragraph(f"{lost:,} of {counts.rows:,} rows have no position, and are not on the maps.") if lost else "")
        + section(
            "Density",
            drawing(
                draw_sky(logarithm, np.zeros(len(cells), bool), ramp, projection, "Map of the density of galaxies"),
                caption,
            ),
        )
        + _map_of_shares(counts)
    )


def _map_of_shares(counts: ReleaseCounts) -> str:
    name, judged = mapped_class(counts.classes), int(counts.sky_judged.sum())
    title = f"Share of “{name}”"
    if not judged:
        return section(title, paragraph("No row with a position has a class of a cutout of its own."))
    projection = projection_for(counts.sky)
    order = order_for(counts.sky_judged, _FOR_A_SHARE, projection)
    total = coarser(counts.sky_judged, SKY_ORDER - order)
    of_class = coarser(counts.sky_mapped, SKY_ORDER - order)
    overall = of_class.sum() / judged
    known, masked = total >= _TOO_FEW, (total > 0) & (total < _TOO_FEW)
    shares = np.where(known, of_class / np.maximum(total, 1), np.nan)
    ramp = _share_ramp(shares[known], total[known], overall, name)
    words = f"Map of the share of class {name}; {percent(overall)} overall"
    spread = _spread(of_class[known], total[known], overall)
    return section(
        title,
        drawing(
            draw_sky(shares, masked, ramp, projection, words),
            f"Of {judged:,} galaxies with a class and a cutout that is neither blank nor repeated, {percent(overall)} "
            f"are “{name}”: that is the middle of the scale. Cells of order {order}, {_cell_side(order)} wide; those "
            f"with fewer than {_TOO_FEW} galaxies are grey ({int(masked.sum()):,} of {np.count_nonzero(total):,}). "
            + (
                f"The shares of the cells scatter {spread:.2f} times as much as they would by chance alone; "
                f"up to {1 + 2 / math.sqrt(2 * (known.sum() - 1)):.2f} times is nothing unusual."
                if not math.isnan(spread)
                else "There are too few cells to tell differences from chance."
            ),
        ),
    )


def _density_ramp(density: npt.NDArray[np.float64]) -> Ramp:
    low, high = float(np.nanmin(density)), float(np.nanmax(density))
    if high < 1.5 * low:
        low, high = low / 1.5, high * 1.5
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [factor * 10.0**power for power in powers for factor in (1, 2, 5) if low <= factor * 10.0**power <= high]
    if len(ticks) > 7:
        ticks = [10.0**power for power in powers if low <= 10.0**power <= high]
    named = tuple((math.log10(tick), f"{tick:,g}") for tick in ticks)
    return Ramp(math.log10(low), math.log10(high), _DENSITY, named, "galaxies per square degree")


def _share_ramp(shares: npt.NDArray[np.float64], total: npt.NDArray[np.int64], overall: float, name: str) -> Ramp:
    """Symmetric about the overall share, so that colours say more or less than that; chance alone stays pale."""
    reach = 0.05
    if len(shares):
        by_chance = 3 * math.sqrt(overall * (1 - overall) / float(np.median(total)))
        reach = max(reach, by_chance, *(abs(float(q) - overall) for q in np.quantile(shares, [0.02, 0.98])))
    low, high = overall - reach, overall + reach
    ticks = tuple((share, f"{100 * share:g}%") for share in round_ticks(max(low, 0), min(high, 1), 6))
    return Ramp(low, high, _SHARES, ticks, f"share of “{name}”")


def _spread(right: npt.NDArray[np.int64], total: npt.NDArray[np.int64], share: float) -> float:
    """Scatter of cells' shares over the binomial one: 1 where only chance makes them differ; nan for under 5 cells."""
    if len(total) < 5 or not 0 < share < 1:
        return math.nan
    chi2 = float(((right - share * total) ** 2 / (share * (1 - share) * total)).sum())
    return math.sqrt(chi2 / (len(total) - 1))


def _cell_deg2(order: int) -> float:
    return _SKY_DEG2 / (BASE_PIXELS << 2 * order)


def _rounded(value: float) -> str:
    """Two digits that count: 41,000, 0.52."""
    digits = 1 - math.floor(math.log10(value))
    return f"{round(value, digits):,.{max(digits, 0)}f}"


def _cell_side(order: int) -> str:
    side = math.sqrt(_cell_deg2(order))
    return f"{side:.2g}°" if side >= 1 else f"{60 * side:.2g}′"
