import numpy as np
import numpy.typing as npt
import pytest
from astropy.coordinates import angular_separation

from galaxy_batch.sky import matching as skymatch
from galaxy_batch.sky.matching import match_positions
from tests.support.skies import even_positions

Array = npt.NDArray[np.float64]


def separations(old: tuple[Array, Array], new: tuple[Array, Array]) -> Array:
    """All pairs, in arcseconds."""
    ra, dec = (np.radians(side) for side in old), (np.radians(side) for side in new)
    (lon1, lat1), (lon2, lat2) = ra, dec
    return np.degrees(angular_separation(lon1[:, None], lat1[:, None], lon2[None], lat2[None])) * 3600


def test_pairs_are_those_of_a_search_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the poles, on both sides of RA 0, with neighbours closer than the radius, and in several pieces."""
    monkeypatch.setattr(skymatch, "_AT_ONCE", 170)
    rng = np.random.default_rng(2)
    ra, dec = even_positions(500, rng)
    crowd = rng.normal(0, 2 / 3600, (2, 200))
    ra, dec = np.concatenate([ra, crowd[0] % 360]), np.concatenate([dec, crowd[1]])
    kept = rng.permutation(700)[:600]
    moved = (
        (ra[kept] + rng.normal(0, 0.3 / 3600, 600)) % 360,
        np.clip(dec[kept] + rng.normal(0, 0.3 / 3600, 600), -90, 90),
    )
    found = match_positions((ra, dec), moved, 1.5)
    apart = separations((ra, dec), moved)
    nearest, nearest_back = apart.argmin(axis=1), apart.argmin(axis=0)
    wanted = {
        (row, int(nearest[row]))
        for row in range(700)
        if nearest_back[nearest[row]] == row and apart[row, nearest[row]] <= 1.5
    }
    assert set(zip(found.old.tolist(), found.new.tolist(), strict=True)) == wanted
    assert len(wanted) > 500
    assert len(set(found.new.tolist())) == len(found.new)
    assert found.separation_arcsec == pytest.approx(apart[found.old, found.new], abs=1e-6)
    inside = apart <= 1.5
    choice = inside.any(axis=1) & ((inside.sum(axis=1) > 1) | (inside.sum(axis=0)[nearest] > 1))
    assert found.ambiguous == choice.sum() > 20


def test_two_old_ones_want_the_same_new_one() -> None:
    """The nearer gets it; both had a rival."""
    second = 1 / 3600
    old = np.array([10.0, 10.0, 200.0]), np.array([0.0, 3 * second, 5.0])
    found = match_positions(old, (np.array([10.0, 200.0]), np.array([second, 5.0])), 2.5)
    assert (found.old.tolist(), found.new.tolist(), found.ambiguous) == ([0, 2], [0, 1], 2)
    assert found.separation_arcsec == pytest.approx([1, 0], abs=1e-6)


def test_the_radius_is_included_and_no_more() -> None:
    old, new = (np.array([0.0]), np.array([0.0])), (np.array([0.0]), np.array([2 / 3600]))
    assert len(match_positions(old, new, 2.000001).old) == 1
    assert len(match_positions(old, new, 1.999999).old) == 0


@pytest.mark.parametrize(("old", "new"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_matches_nothing(old: int, new: int) -> None:
    found = match_positions((np.zeros(old), np.zeros(old)), (np.zeros(new), np.zeros(new)), 1.0)
    assert (len(found.old), len(found.new), found.ambiguous) == (0, 0, 0)
