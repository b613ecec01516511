"""A cone on the sky: which positions lie in it, and which HEALPix pixels it touches."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from astropy.coordinates import angular_separation
from astropy_healpix import healpix_to_lonlat

from galaxy_batch.settings import Range

__all__ = ["Cone"]

_DEEPEST = 29
_DEEPER = 5  # orders below a pixel at which its part in the cone is drawn: to a thirtieth of its width
_SLACK_DEG = 1e-9  # 4 microarcseconds: rounding must never leave a pixel out


@dataclass(frozen=True)
class Cone:
    """All positions within an angle of a centre, the rim included."""

    ra: Annotated[float, Range(0, 360)]
    """Right ascension of the centre, ICRS, in degrees."""
    dec: Annotated[float, Range(-90, 90)]
    """Declination of the centre, ICRS, in degrees."""
    radius_deg: Annotated[float, Range(0, 180)]
    """Great-circle distance of the rim from the centre, in degrees."""

    def holds(self, ra_deg: npt.NDArray[np.float64], dec_deg: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Whether each position lies in the cone, by its great-circle distance, ``(N,)``."""
        return self._distance_deg(np.radians(ra_deg), np.radians(dec_deg)) <= self.radius_deg

    def keys_within(
        self, order: int, pixels: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Where in each pixel the cone lies: the lowest and the highest key (pixel of order 29) there, both ``(N,)``.

        A pixel that the cone does not touch has a lowest key above its highest. A row in the cone always has a key in
        between; near the rim, rows outside the cone have too.

        Args:
            order: of the pixels.
            pixels: nested, ``(N,)``.
        """
        lowest, highest = np.full(len(pixels), np.iinfo(np.int64).max), np.full(len(pixels), -1)
        owners, pixels = np.arange(len(pixels)), np.asarray(pixels, np.int64)
        deepest = min(order + _DEEPER, _DEEPEST)
        for level in range(order, deepest + 1):
            lon, lat = healpix_to_lonlat(pixels, 2**level, order="nested")
            distance, reach = self._distance_deg(lon.to_value("rad"), lat.to_value("rad")), _reach_deg(level)
            touched = distance - reach <= self.radius_deg + _SLACK_DEG
            settled = touched & ((distance + reach <= self.radius_deg) | (level == deepest))
            shift = 2 * (_DEEPEST - level)
            np.minimum.at(lowest, owners[settled], pixels[settled] << shift)
            np.maximum.at(highest, owners[settled], ((pixels[settled] + 1) << shift) - 1)
            rim = touched & ~settled
            owners, pixels = np.repeat(owners[rim], 4), (4 * pixels[rim][:, None] + np.arange(4)).ravel()
        return lowest, highest

    def _distance_deg(
        self, ra_rad: npt.NDArray[np.float64], dec_rad: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        apart = angular_separation(np.radians(self.ra), np.radians(self.dec), ra_rad, dec_rad)
        return np.asarray(np.degrees(apart))


def _reach_deg(order: int) -> float:
    """The largest distance of a pixel's corner from its centre.

    That is in the pixel whose centre is where the equatorial and the polar scheme meet, at sin(dec) = 2/3 and
    longitude π / (4 nside), and whose northern corner is at sin(dec) = 1 - (1 - 1/nside)² / 3 and longitude 0.
    """
    nside = 2**order
    centre, corner = np.arcsin(2 / 3), np.arcsin(1 - (1 - 1 / nside) ** 2 / 3)
    return float(np.degrees(angular_separation(np.pi / (4 * nside), centre, 0.0, corner)))
