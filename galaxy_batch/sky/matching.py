"""Objects of two catalogs that are the same, by their positions."""

from dataclasses import dataclass

import astropy.units as u
import numpy as np
import numpy.typing as npt
from astropy.coordinates import SkyCoord

__all__ = ["SkyMatch", "match_positions"]

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

_AT_ONCE = 1_000_000  # positions asked for together: what a question needs does not grow with the catalog


@dataclass(frozen=True)
class SkyMatch:
    """Pairs of positions, none in more than one pair."""

    old: Rows
    """``(M,)``: which position of the old catalog, ascending."""
    new: Rows
    """``(M,)``: and which of the new."""
    separation_arcsec: Array
    """``(M,)``."""
    ambiguous: int
    """Old positions for which there was a choice: with several new ones within the radius, or with one that has
    several old ones within it."""


def match_positions(old: tuple[Array, Array], new: tuple[Array, Array], radius_arcsec: float) -> SkyMatch:
    """Pair positions that are each other's nearest and lie within a radius.

    Of three positions in a row, the one in the middle goes to the nearer one, and the other stays alone: it is counted
    as ambiguous. Holds two trees of the sky, some 100 bytes for each position of both catalogs.

    Args:
        old: right ascension and declination, ICRS, in degrees, ``(N,)`` each, without nan.
        new: likewise ``(M,)``.
        radius_arcsec: largest separation of a pair.
    """
    if not len(old[0]) or not len(new[0]):
        return SkyMatch(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), 0)
    forward, separation, second = _nearest(old, new)
    backward, _, second_back = _nearest(new, old)
    inside = separation <= radius_arcsec
    ambiguous = inside & ((second <= radius_arcsec) | (second_back[forward] <= radius_arcsec))
    chosen = np.flatnonzero(inside & (backward[forward] == np.arange(len(forward))))
    return SkyMatch(chosen, forward[chosen], separation[chosen], int(ambiguous.sum()))


def _nearest(places: tuple[Array, Array], others: tuple[Array, Array]) -> tuple[Rows, Array, Array]:
    """For each place the nearest other one, how far it is, and how far the second nearest, in arcseconds."""
    catalog = SkyCoord(others[0] * u.deg, others[1] * u.deg)  # astropy keeps its tree for the next question
    found = []
    for start in range(0, len(places[0]), _AT_ONCE):
        some = SkyCoord(places[0][start : start + _AT_ONCE] * u.deg, places[1][start : start + _AT_ONCE] * u.deg)
        nearest, separation, _ = some.match_to_catalog_sky(catalog)
        second = np.full(len(some), np.inf)
        if len(catalog) > 1:
            second = some.match_to_catalog_sky(catalog, nthneighbor=2)[1].to_value(u.arcsec)
        found.append((np.asarray(nearest, np.int64), separation.to_value(u.arcsec), second))
    return tuple(map(np.concatenate, zip(*found, strict=True)))  # type: ignore[return-value]
