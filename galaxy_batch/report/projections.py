"""Equal-area projections of the sky: equal areas on the sphere are equal areas on paper.

The whole sky in Mollweide's projection, a patch of it in Lambert's azimuthal one (both in Snyder 1987, USGS
Professional Paper 1395). Planes are seen as the sphere's own coordinates are: x grows with right ascension, and it is
for those who draw to turn it to the left.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from astropy_healpix import healpix_to_xyz

from galaxy_batch.report.figures import round_ticks
from galaxy_batch.sky.healpix import BASE_PIXELS, coarser

__all__ = ["GridLine", "Lambert", "Mollweide", "Projection", "projection_for"]

Array = npt.NDArray[np.float64]

_PATCH_DEG = 35.0  # a survey within this radius is drawn as a patch
_SAMPLES = 721  # points of a line of the grid
_ANGLES = np.linspace(-np.pi / 2, np.pi / 2, 20_001)  # Mollweide's auxiliary angle, and the declination of each
_DECLINATIONS = np.arcsin(np.clip((2 * _ANGLES + np.sin(2 * _ANGLES)) / np.pi, -1, 1))


@dataclass(frozen=True)
class GridLine:
    """A meridian or parallel in the plane of a projection."""

    words: str
    x: Array
    """``(N,)``; nan where the drawing does not reach."""
    y: Array
    named_at: int
    """The point that gets the words."""
    outside: bool = True
    """Whether the words go outside, away from the middle of the map, or beside the point."""


@dataclass(frozen=True)
class Mollweide:
    """The whole sky in an ellipse."""

    centre_ra_deg: float = 180.0
    width: float = 4 * math.sqrt(2)
    """Of the plane, whose middle is (0, 0); the sphere's radius is 1."""
    height: float = 2 * math.sqrt(2)
    name: str = "Mollweide’s equal-area projection"

    def grid(self) -> list["GridLine"]:
        """Meridians and parallels to draw."""
        along, across = np.linspace(-90, 90, _SAMPLES), np.linspace(-180 + 1e-9, 180 - 1e-9, _SAMPLES)
        inner = [(self.centre_ra_deg + from_centre) % 360 for from_centre in range(-150, 180, 30)]
        meridians = [
            GridLine(f"{ra:g}°", *self.forward(np.full(_SAMPLES, ra), along), _SAMPLES // 2, outside=False)
            for ra in inner
        ]
        return meridians + [
            GridLine(_signed(dec), *self.forward(self.centre_ra_deg + across, np.full(_SAMPLES, float(dec))), -1)
            for dec in range(-60, 90, 30)
        ]

    def forward(self, ra_deg: Array, dec_deg: Array) -> tuple[Array, Array]:
        """x, growing with RA, and y, growing with declination, of degrees; ``(N,)`` each."""
        from_centre = np.radians((np.asarray(ra_deg) - self.centre_ra_deg + 180) % 360 - 180)
        theta = np.interp(np.radians(dec_deg), _DECLINATIONS, _ANGLES)
        return np.sqrt(8) / np.pi * from_centre * np.cos(theta), np.sqrt(2) * np.sin(theta)

    def inverse(self, x: Array, y: Array) -> tuple[Array, Array]:
        """RA in [0, 360) and declination, in degrees, of points of the plane; nan off the sky."""
        with np.errstate(invalid="ignore", divide="ignore"):
            theta = np.arcsin(y / np.sqrt(2))
            dec = np.degrees(np.arcsin(np.clip((2 * theta + np.sin(2 * theta)) / np.pi, -1, 1)))
            from_centre = np.degrees(np.pi * x / (np.sqrt(8) * np.cos(theta)))
        inside = np.abs(from_centre) <= 180
        ra = (self.centre_ra_deg + from_centre) % 360
        return np.where(inside, np.where(ra >= 360, 0.0, ra), np.nan), np.where(inside, dec, np.nan)


@dataclass(frozen=True)
class Lambert:
    """A patch of the sky around a point, in a circle."""

    centre_ra_deg: float
    centre_dec_deg: float
    radius_deg: float
    name: str = "Lambert’s azimuthal equal-area projection"

    @property
    def width(self) -> float:
        """Of the plane, whose middle is (0, 0); the sphere's radius is 1."""
        return 4 * math.sin(math.radians(self.radius_deg) / 2)

    height = width

    def grid(self) -> list["GridLine"]:
        """Meridians and parallels to draw."""
        low, high = self.centre_dec_deg - self.radius_deg, self.centre_dec_deg + self.radius_deg
        decs = round_ticks(max(low, -90), min(high, 90), 5)
        around_pole = low <= -90 or high >= 90
        reach = 180.0
        if not around_pole:
            sine = math.sin(math.radians(self.radius_deg)) / math.cos(math.radians(self.centre_dec_deg))
            reach = math.degrees(math.asin(min(1.0, sine)))
        ras = (
            [30.0 * step for step in range(12)]
            if around_pole
            else round_ticks(self.centre_ra_deg - reach, self.centre_ra_deg + reach, 5)
        )
        along = np.linspace(max(low, -90), min(high, 90), _SAMPLES)
        across = self.centre_ra_deg + np.linspace(-reach, reach, _SAMPLES)
        away_from_pole = 1 if self.centre_dec_deg >= 0 else -1
        lines = []
        for ra in ras:
            x, y = self.forward(np.full(_SAMPLES, ra), along)
            seen = np.flatnonzero(~np.isnan(x))
            if len(seen):
                lines.append(GridLine(f"{round(ra % 360, 6):g}°", x, y, int(seen[::away_from_pole][0])))
        for dec in decs:
            x, y = self.forward(across, np.full(_SAMPLES, dec))
            if not np.isnan(x).all():
                leftmost = int(np.nanargmax(x))
                between = (leftmost + _SAMPLES // 24) % _SAMPLES  # 15 degrees off a meridian
                inside = around_pole and not np.isnan(x[between])
                lines.append(GridLine(_signed(dec), x, y, between if inside else leftmost, outside=not inside))
        return lines

    def forward(self, ra_deg: Array, dec_deg: Array) -> tuple[Array, Array]:
        """x, growing with RA, and y, growing with declination, of degrees; nan outside the circle."""
        ra, dec = np.radians(np.asarray(ra_deg) - self.centre_ra_deg), np.radians(dec_deg)
        centre = math.radians(self.centre_dec_deg)
        cosine = math.sin(centre) * np.sin(dec) + math.cos(centre) * np.cos(dec) * np.cos(ra)
        scale = np.sqrt(2 / np.maximum(1 + cosine, 1e-9))
        north = math.cos(centre) * np.sin(dec) - math.sin(centre) * np.cos(dec) * np.cos(ra)
        seen = cosine >= math.cos(math.radians(self.radius_deg)) - 1e-12
        return np.where(seen, scale * np.cos(dec) * np.sin(ra), np.nan), np.where(seen, scale * north, np.nan)

    def inverse(self, x: Array, y: Array) -> tuple[Array, Array]:
        """RA in [0, 360) and declination, in degrees, of points of the plane; nan outside the circle."""
        centre, distance = math.radians(self.centre_dec_deg), np.hypot(x, y)
        inside = distance <= self.width / 2
        angle = 2 * np.arcsin(np.minimum(distance / 2, 1))
        share = np.divide(np.sin(angle), distance, out=np.ones_like(distance), where=distance > 0)
        dec = np.arcsin(np.clip(np.cos(angle) * math.sin(centre) + y * share * math.cos(centre), -1, 1))
        ra = np.arctan2(x * share, math.cos(centre) * np.cos(angle) - y * share * math.sin(centre))
        ra_deg = (self.centre_ra_deg + np.degrees(ra)) % 360
        return np.where(inside, np.where(ra_deg >= 360, 0.0, ra_deg), np.nan), np.where(inside, np.degrees(dec), np.nan)


Projection = Mollweide | Lambert


def projection_for(rows: npt.NDArray[np.int32]) -> Projection:
    """Lambert's around a survey that lies within 35 degrees; else Mollweide's, cut where there are fewer galaxies.

    Args:
        rows: galaxies in each cell, ``(12 · 4^order,)``, nested.
    """
    finest = (len(rows) // BASE_PIXELS).bit_length() // 2
    rough = coarser(rows, max(0, finest - 4))
    middle, reach = _cap(rough)
    if reach <= _PATCH_DEG + 10:  # then it is worth a closer look, and there are few cells to look at
        middle, reach = _cap(rows)
        if reach <= _PATCH_DEG:
            ra, dec = math.degrees(math.atan2(middle[1], middle[0])) % 360, math.degrees(math.asin(middle[2]))
            return Lambert(ra, dec, 1.06 * reach)
    x, y, _ = _centres(rough)
    found = rough[rough > 0]
    return Mollweide(0.0 if found[x > np.abs(y)].sum() > found[-x > np.abs(y)].sum() else 180.0)


def _cap(rows: npt.NDArray[np.int32] | npt.NDArray[np.int64]) -> tuple[Array, float]:
    """Where the middle of the galaxies is, and how many degrees around it hold them all."""
    points = _centres(rows)
    middle = (points * rows[rows > 0]).sum(axis=1)
    length = float(np.linalg.norm(middle))
    if not length:
        return middle, 180.0
    middle /= length
    half_a_cell_deg = 60 / math.sqrt(len(rows) / BASE_PIXELS)
    return np.clip(middle, -1, 1), math.degrees(math.acos(np.clip((middle @ points).min(), -1, 1))) + half_a_cell_deg


def _centres(rows: npt.NDArray[np.int32] | npt.NDArray[np.int64]) -> Array:
    """Unit vectors ``(3, cells)`` to the cells with galaxies."""
    order = (len(rows) // BASE_PIXELS).bit_length() // 2
    return np.stack(healpix_to_xyz(np.flatnonzero(rows), 2**order, order="nested"))


def _signed(dec: float) -> str:
    return f"{dec:+g}°".replace("-", "−") if dec else "0°"
