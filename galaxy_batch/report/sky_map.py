"""Maps of HEALPix cells in equal-area projections, right ascension growing to the left.

The whole sky is drawn in Mollweide's projection, a patch in Lambert's zenithal one (Calabretta & Greisen 2002, A&A 395,
1077: MOL and ZEA), by astropy's WCSAxes. Each pixel of the map is projected back to the sky and takes the value of its
cell, so that poles and the meridian RA 0 need no special case.
"""

import math
from dataclasses import dataclass
from typing import Any

import astropy.units as u
import numpy as np
import numpy.typing as npt
from astropy.visualization.wcsaxes.frame import EllipticalFrame, RectangularFrame
from astropy.wcs import WCS
from astropy_healpix import healpix_to_xyz
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from galaxy_batch.report.figures import INK, is_narrow, new_figure
from galaxy_batch.sky.healpix import BASE_PIXELS, coarser, pixels_at

__all__ = ["SkyRegion", "draw_sky", "order_for", "region_for"]

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int32] | npt.NDArray[np.int64]

_PIXELS = 1000  # width of the raster
_PATCH_DEG = 35.0  # surveys within this radius are drawn as a patch
_MASKED = (0.7, 0.7, 0.7, 1.0)


@dataclass(frozen=True)
class SkyRegion:
    """The part of the sky that a map shows; the whole sky without a radius."""

    ra_deg: float = 180.0
    """Of the centre."""
    dec_deg: float = 0.0
    radius_deg: float | None = None

    @property
    def projection(self) -> str:
        """Name of the projection."""
        return "Mollweide’s projection" if self.radius_deg is None else "Lambert’s zenithal projection"

    @property
    def has_pole(self) -> bool:
        """Whether a patch holds one of the poles."""
        return self.radius_deg is not None and abs(self.dec_deg) + self.radius_deg >= 90

    @property
    def width(self) -> float:
        """Of the map, where the unit sphere has the area 4π."""
        return 4 * math.sqrt(2) if self.radius_deg is None else 4 * math.sin(math.radians(self.radius_deg) / 2)

    def wcs(self) -> WCS:
        """The projection of a map `_PIXELS` wide; `pixel_shape` has both sides."""
        height = _PIXELS if self.radius_deg is not None else _PIXELS // 2
        wcs = WCS(naxis=2)
        code, scale_deg = "MOL" if self.radius_deg is None else "ZEA", math.degrees(self.width) / _PIXELS
        wcs.wcs.ctype, wcs.wcs.crval = [f"RA---{code}", f"DEC--{code}"], [self.ra_deg, self.dec_deg]
        wcs.wcs.cdelt, wcs.wcs.crpix = [-scale_deg, scale_deg], [(_PIXELS + 1) / 2, (height + 1) / 2]
        if self.radius_deg is not None:
            wcs.wcs.lonpole = 180  # north up, also where the centre is the pole
        wcs.pixel_shape = (_PIXELS, height)
        return wcs


def region_for(rows: Counts) -> SkyRegion:
    """A patch around rows that lie within 35 degrees; else the whole sky, centred on RA 0 or 180.

    Args:
        rows: in each cell, ``(12 · 4^order,)``, nested.
    """
    vectors = np.stack(healpix_to_xyz(np.flatnonzero(rows), 2 ** _order(rows), order="nested"))
    x, y, _ = vectors
    counts = rows[rows > 0]
    centre = (vectors * counts).sum(axis=1)
    length = float(np.linalg.norm(centre))
    if length:
        centre = np.clip(centre / length, -1, 1)
        half_a_cell_deg = 60 / 2 ** _order(rows)
        radius_deg = math.degrees(math.acos(np.clip((centre @ vectors).min(), -1, 1))) + half_a_cell_deg
        if radius_deg <= _PATCH_DEG:
            ra_deg = math.degrees(math.atan2(centre[1], centre[0])) % 360
            return SkyRegion(ra_deg, math.degrees(math.asin(centre[2])), 1.06 * radius_deg)
    return SkyRegion(0.0 if counts[x > np.abs(y)].sum() > counts[-x > np.abs(y)].sum() else 180.0)


def order_for(rows: Counts, wanted: float, region: SkyRegion) -> int:
    """The finest order whose non-empty cells hold `wanted` rows on average and are three pixels wide on the map.

    Args:
        rows: in each cell of the finest order there is, ``(12 · 4^order,)``, nested.
        wanted: rows in a cell.
        region: what the map shows.
    """
    finest, side = _order(rows), 3 * region.width / _PIXELS
    visible = math.floor(math.log2(math.sqrt(4 * math.pi / BASE_PIXELS) / side))
    for order in range(min(finest, max(visible, 0)), 0, -1):
        cells = coarser(rows, finest - order)
        if cells.any() and cells.sum() >= wanted * np.count_nonzero(cells):
            return order
    return 0


def draw_sky(
    width_px: int,
    values: Array,
    region: SkyRegion,
    colours: tuple[Colormap, Normalize],
    label: str,
    masked: npt.NDArray[np.bool_] | None = None,
    **bar: Any,
) -> Figure:
    """A map with a grid in degrees and a colour bar.

    Args:
        width_px: of the figure.
        values: of each cell, ``(12 · 4^order,)``, nested; nothing is drawn where they are nan.
        region: what the map shows.
        colours: colour map, and normalisation of the values.
        label: of the colour bar.
        masked: cells that are drawn grey instead, ``(12 · 4^order,)``.
        bar: further settings of the colour bar (`ticks`, `format`).
    """
    whole, wcs = region.radius_deg is None, region.wcs()
    side_px = width_px if whole or is_narrow(width_px) else 0.68 * width_px
    figure = new_figure(width_px, side_px * (0.5 if whole else 1) + 80)
    frame = EllipticalFrame if whole or region.has_pole else RectangularFrame
    axis = figure.add_subplot(projection=wcs, frame_class=frame)
    axis.imshow(_raster(values, masked, wcs, colours), interpolation="none")
    axis.coords.frame.set_color(INK)
    axis.coords.grid(color=INK, alpha=0.35, linewidth=0.6)
    ra, dec = axis.coords
    for coordinate, position in zip((ra, dec), "hc" if whole else "cv" if region.has_pole else "bl", strict=True):
        coordinate.set_format_unit(u.deg, decimal=True, show_decimal_unit=True)
        coordinate.set_ticks_visible(False)
        coordinate.set_axislabel("" if frame is EllipticalFrame else "RA" if coordinate is ra else "Dec")
        coordinate.set_ticklabel_position(position)
        coordinate.set_axislabel_position(position)
        if whole:  # without the edge's own meridian, whose label would cover that of the equator
            step = 60 if is_narrow(width_px) else 30
            ticks = np.arange(step - 180, 180, step) + region.ra_deg if coordinate is ra else np.arange(-60, 61, step)
            coordinate.set_ticks(ticks % 360 * u.deg if coordinate is ra else ticks * u.deg)
            coordinate.set_major_formatter("d")
    drawn = figure.colorbar(
        ScalarMappable(colours[1], colours[0]), ax=axis, orientation="horizontal", aspect=30, pad=0.04,
        shrink=1.0 if is_narrow(width_px) else 0.5, **bar,
    )  # fmt: skip
    drawn.set_label(label)
    drawn.minorticks_off()
    drawn.ax.grid(visible=False)
    return figure


def _raster(
    values: Array, masked: npt.NDArray[np.bool_] | None, wcs: WCS, colours: tuple[Colormap, Normalize]
) -> Array:
    """Colours ``(height, width, 4)`` of the map's pixels, from 0 to 1; transparent where there is nothing."""
    width, height = wcs.pixel_shape
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    ra_deg, dec_deg = wcs.pixel_to_world_values(x.ravel(), y.ravel())
    on_sky = np.flatnonzero(np.isfinite(ra_deg))
    cells = pixels_at(ra_deg[on_sky], dec_deg[on_sky], _order(values))
    cmap, norm = colours
    painted = cmap(norm(np.ma.masked_invalid(values[cells])))
    if masked is not None:
        painted[masked[cells]] = _MASKED
    raster = np.zeros((height * width, 4))
    raster[on_sky] = painted
    return raster.reshape(height, width, 4)


def _order(cells: npt.NDArray[Any]) -> int:
    return (len(cells) // BASE_PIXELS).bit_length() // 2
