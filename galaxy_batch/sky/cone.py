"""A cone on the sky: which positions lie in it, and which HEALPix pixels it overlaps."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from galaxy_batch.settings import Range

__all__ = ["Cone"]

_MAX_ORDER = 29
_REFINEMENT = 5  # orders by which pixels on the rim are refined: to 1/32 of their width
_SLACK_DEG = 1e-9  # 4 microarcseconds, so that rounding never excludes a pixel


@dataclass(frozen=True)
class Cone:
    """All positions within an angle of a centre, inclusive."""

    ra: Annotated[float, Range(0, 360)]
    """Right ascension of the centre, ICRS, in degrees."""
    dec: Annotated[float, Range(-90, 90)]
    """Declination of the centre, ICRS, in degrees."""
    radius_deg: Annotated[float, Range(0, 180)]
    """Radius of the cone, a great-circle distance, in degrees."""

    def contains(self, ra_deg: npt.NDArray[np.float64], dec_deg: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Whether each position lies in the cone, ``(N,)``."""
        return self._distance_deg(np.radians(ra_deg), np.radians(dec_deg)) <= self.radius_deg

    def keys_within(
        self, order: int, pixels: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Lowest and highest key (pixel of order 29) of the cone within each pixel, both ``(N,)``.

        Every row in the cone has a key in this range, and so have some outside, near the rim. Where the cone does not
        overlap a pixel, the lowest key is above the highest.

        Args:
            order: order of the pixels.
            pixels: nested pixel numbers, ``(N,)``.
        """
        from astropy_healpix import healpix_to_lonlat  # noqa: PLC0415 - seconds, which `--help` need not wait

        lowest, highest = np.full(len(pixels), np.iinfo(np.int64).max), np.full(len(pixels), -1)
        owners, pixels = np.arange(len(pixels)), np.asarray(pixels, np.int64)
        deepest = min(order + _REFINEMENT, _MAX_ORDER)
        for level in range(order, deepest + 1):
            lon, lat = healpix_to_lonlat(pixels, 2**level, order="nested")
            distance, radius = self._distance_deg(lon.to_value("rad"), lat.to_value("rad")), _pixel_radius_deg(level)
            overlaps = distance - radius <= self.radius_deg + _SLACK_DEG
            final = overlaps & ((distance + radius <= self.radius_deg) | (level == deepest))
            shift = 2 * (_MAX_ORDER - level)
            np.minimum.at(lowest, owners[final], pixels[final] << shift)
            np.maximum.at(highest, owners[final], ((pixels[final] + 1) << shift) - 1)
            rim = overlaps & ~final
            owners, pixels = np.repeat(owners[rim], 4), (4 * pixels[rim][:, None] + np.arange(4)).ravel()
        return lowest, highest

    def _distance_deg(
        self, ra_rad: npt.NDArray[np.float64], dec_rad: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        from astropy.coordinates import angular_separation  # noqa: PLC0415 - as above

        return np.asarray(np.degrees(angular_separation(np.radians(self.ra), np.radians(self.dec), ra_rad, dec_rad)))


def _pixel_radius_deg(order: int) -> float:
    """Largest distance between a pixel's centre and a corner, in degrees.

    It occurs where the equatorial and the polar region meet: centre at sin(dec) = 2/3 and longitude π / (4 nside),
    northern corner at sin(dec) = 1 - (1 - 1/nside)² / 3 and longitude 0.
    """
    from astropy.coordinates import angular_separation  # noqa: PLC0415 - as above

    nside = 2**order
    centre, corner = np.arcsin(2 / 3), np.arcsin(1 - (1 - 1 / nside) ** 2 / 3)
    return float(np.degrees(angular_separation(np.pi / (4 * nside), centre, 0.0, corner)))
