"""Footprints of tiles on the sky, approximated on the plane that touches the sky at each tile's centre.

There a tile with a TAN projection is exactly a parallelogram of pixels, and one with distortions is nearly one: to a
few pixels, which is enough to choose among tiles. Cutting itself uses the whole WCS.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from galaxy_batch.rows import Status, UnusableCutout

if TYPE_CHECKING:
    from astropy.wcs import WCS

__all__ = ["MARGIN_PX", "Footprint", "Footprints", "rectangle", "wcs_footprint"]

Array = npt.NDArray[np.float64]

MARGIN_PX = 16.0
"""How far outside of its footprint a tile is still used: the approximation may be wrong by a few pixels."""
_SAMPLES = 5  # per axis, of pixels by which the parallelogram is fitted
_MAX_RADIUS_DEG = 45.0


@dataclass(frozen=True)
class Footprint:
    """The footprint of one tile."""

    ra_deg: float
    """Of its centre, ICRS."""
    dec_deg: float
    width_px: float
    height_px: float
    matrix: tuple[float, float, float, float]
    """Pixels per degree east and north of the centre: x by east, x by north, y by east, y by north."""

    @property
    def scale_arcsec(self) -> float:
        """Side of a pixel."""
        xe, xn, ye, yn = self.matrix
        return float(3600 / np.sqrt(abs(xe * yn - xn * ye)))

    @property
    def radius_deg(self) -> float:
        """Distance of its corners from its centre, with the margin, on the plane."""
        inverse = np.linalg.inv(np.reshape(self.matrix, (2, 2)))
        reach = np.array([self.width_px, self.height_px]) / 2 + MARGIN_PX
        corners = inverse @ np.array([[reach[0], reach[0]], [reach[1], -reach[1]]])
        return float(np.hypot(*corners).max())


def rectangle(ra_deg: float, dec_deg: float, width_deg: float, height_deg: float) -> Footprint:
    """A footprint of this size with north up, in pixels of one arcsecond."""
    return Footprint(ra_deg, dec_deg, width_deg * 3600, height_deg * 3600, (-3600.0, 0.0, 0.0, 3600.0))


def wcs_footprint(wcs: "WCS", shape: tuple[int, int]) -> Footprint:
    """The footprint of an image of this height and width.

    Raises:
        UnusableCutout: its WCS gives no positions, or it spans too much of the sky for a tile.
    """
    height, width = shape
    x, y = (axis.ravel() for axis in np.meshgrid(*(np.linspace(0, n - 1, _SAMPLES) for n in (width, height))))
    ra, dec = _icrs(wcs, np.append(x, (width - 1) / 2), np.append(y, (height - 1) / 2))
    centre = float(ra[-1]) % 360, float(dec[-1])
    east, north = _on_plane(ra[:-1], dec[:-1], *centre)
    if not np.isfinite(east).all():
        raise UnusableCutout(Status.UNREADABLE, "the WCS in the header gives no positions for some of its pixels")
    pixels = np.stack([x - (width - 1) / 2, y - (height - 1) / 2], axis=1)
    solution, _, rank, _ = np.linalg.lstsq(np.stack([east, north], axis=1), pixels, rcond=None)
    if rank < 2 or np.hypot(east, north).max() > np.degrees(np.tan(np.radians(_MAX_RADIUS_DEG))):
        raise UnusableCutout(Status.UNREADABLE, "the WCS in the header is not that of a tile of the sky")
    (xe, ye), (xn, yn) = solution.tolist()
    return Footprint(*centre, float(width), float(height), (xe, xn, ye, yn))


class Footprints:
    """The footprints of many tiles, and which of them each position lies in."""

    def __init__(self, footprints: list[Footprint]) -> None:
        self.footprints = footprints

    def owners(self, ra_deg: Array, dec_deg: Array, preferred: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """The tile of each position: of those that contain it, the one in which it lies furthest from the edge.

        Args:
            ra_deg: ICRS, ``(N,)``; nan where there is no position.
            dec_deg: likewise.
            preferred: tiles that are used wherever they contain the position, before others, ``(T,)``.

        Returns:
            Numbers of tiles ``(N,)``; -1 outside all of them.
        """
        from scipy.spatial import KDTree  # noqa: PLC0415 - half a second

        owners = np.full(len(ra_deg), -1, np.int64)
        known = np.flatnonzero(np.isfinite(ra_deg) & np.isfinite(dec_deg))
        if not len(known) or not self.footprints:
            return owners
        ra, dec = ra_deg[known], dec_deg[known]
        tree, best, best_preferred = KDTree(_vectors(ra, dec)), np.full(len(known), -np.inf), np.zeros(len(known), bool)
        owned = np.full(len(known), -1, np.int64)
        for number, tile in enumerate(self.footprints):
            chord = 2 * np.sin(np.arctan(np.radians(tile.radius_deg)) / 2) * (1 + 1e-9)
            near = np.asarray(tree.query_ball_point(_vectors(tile.ra_deg, tile.dec_deg), chord), np.int64)
            if not len(near):
                continue
            depth = _depth_px(tile, ra[near], dec[near])
            depth[~(depth > -MARGIN_PX)] = -np.inf
            depth *= tile.scale_arcsec
            first = preferred[number] & ~best_preferred[near] & np.isfinite(depth)
            deeper = (depth > best[near]) & (preferred[number] >= best_preferred[near])
            rows = near[first | deeper]
            best[rows], owned[rows], best_preferred[rows] = depth[first | deeper], number, preferred[number]
        owners[known] = owned
        return owners


def _depth_px(tile: Footprint, ra_deg: Array, dec_deg: Array) -> Array:
    """Distance of each position from the nearest edge; negative outside; nan on the other half of the sky."""
    east, north = _on_plane(ra_deg, dec_deg, tile.ra_deg, tile.dec_deg)
    xe, xn, ye, yn = tile.matrix
    x, y = xe * east + xn * north, ye * east + yn * north
    return np.minimum(tile.width_px / 2 - np.abs(x), tile.height_px / 2 - np.abs(y))


def _on_plane(ra_deg: Array, dec_deg: Array, centre_ra: float, centre_dec: float) -> tuple[Array, Array]:
    """Gnomonic projection (TAN; Calabretta & Greisen 2002, A&A 395, 1077): degrees east and north of the centre."""
    ra, dec, dec_0 = np.radians(ra_deg - centre_ra), np.radians(dec_deg), np.radians(centre_dec)
    along = np.sin(dec_0) * np.sin(dec) + np.cos(dec_0) * np.cos(dec) * np.cos(ra)
    with np.errstate(divide="ignore", invalid="ignore"):
        along = np.where(along > 0, along, np.nan)
        east = np.cos(dec) * np.sin(ra) / along
        north = (np.cos(dec_0) * np.sin(dec) - np.sin(dec_0) * np.cos(dec) * np.cos(ra)) / along
    return np.degrees(east), np.degrees(north)


def _icrs(wcs: "WCS", x: Array, y: Array) -> tuple[Array, Array]:
    """Positions of pixels; FK5 J2000 is taken as ICRS, from which it differs by less than 0.04 arcseconds."""
    from astropy.coordinates import FK5, ICRS, SkyCoord  # noqa: PLC0415 - seconds
    from astropy.wcs.utils import wcs_to_celestial_frame  # noqa: PLC0415

    world = wcs.all_pix2world(x, y, 0)
    lon, lat = np.asarray(world[wcs.wcs.lng], np.float64), np.asarray(world[wcs.wcs.lat], np.float64)
    frame = wcs_to_celestial_frame(wcs)
    if isinstance(frame, ICRS) or (isinstance(frame, FK5) and frame.equinox.jyear == 2000):
        return lon, lat
    converted = SkyCoord(lon, lat, unit="deg", frame=frame).icrs
    return converted.ra.deg, converted.dec.deg


def _vectors(ra_deg: Array | float, dec_deg: Array | float) -> Array:
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)
