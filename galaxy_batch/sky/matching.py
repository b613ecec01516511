"""Matching of two catalogs by position."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

__all__ = ["SkyMatch", "match_positions"]

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SkyMatch:
    """Pairs of positions, none in more than one pair."""

    old: Rows
    """``(M,)``: rows of the old catalog, ascending."""
    new: Rows
    """``(M,)``: the matching rows of the new catalog."""
    separation_arcsec: Array
    """``(M,)``."""
    ambiguous: int
    """Number of old positions with several new ones within the radius, or with one that has several old ones."""


def match_positions(old: tuple[Array, Array], new: tuple[Array, Array], radius_arcsec: float) -> SkyMatch:
    """Pair positions that are each other's nearest and lie within a radius.

    Of three positions in a row, the middle one is paired with the nearer one and the other stays unmatched, counted as
    ambiguous. Memory: two k-d trees, about 100 bytes per position of both catalogs.

    Args:
        old: right ascension and declination, ICRS, in degrees, ``(N,)`` each, without nan.
        new: likewise ``(M,)``.
        radius_arcsec: largest separation of a pair.
    """
    old_vectors, new_vectors = _unit_vectors(*old), _unit_vectors(*new)
    if not len(old_vectors) or not len(new_vectors):
        return SkyMatch(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), 0)
    forward, separation, second = _nearest(old_vectors, new_vectors)
    backward, _, second_back = _nearest(new_vectors, old_vectors)
    inside = separation <= radius_arcsec
    ambiguous = inside & ((second <= radius_arcsec) | (second_back[forward] <= radius_arcsec))
    mutual = np.flatnonzero(inside & (backward[forward] == np.arange(len(forward))))
    return SkyMatch(mutual, forward[mutual], separation[mutual], int(ambiguous.sum()))


def _unit_vectors(ra_deg: Array, dec_deg: Array) -> Array:
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)


def _nearest(vectors: Array, others: Array) -> tuple[Rows, Array, Array]:
    """For each vector the nearest other one, and the angles to the nearest and second nearest in arcseconds."""
    chords, rows = KDTree(others).query(vectors, k=2, workers=-1)
    angles = np.degrees(2 * np.arcsin(np.minimum(chords / 2, 1))) * 3600  # chords to a missing neighbour are inf
    return rows[:, 0], angles[:, 0], angles[:, 1]
