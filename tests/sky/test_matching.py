import numpy as np
import numpy.typing as npt
import pytest
from astropy.coordinates import angular_separation

from galaxy_batch.sky.matching import match_positions
from tests.support.skies import even_positions

Array = npt.NDArray[np.float64]


def separations(old: tuple[Array, Array], new: tuple[Array, Array]) -> Array:
    """All pairs, in arcseconds."""
    ra, dec = (np.radians(side) for side in old), (np.radians(side) for side in new)
    (lon1, lat1), (lon2, lat2) = ra, dec
    return np.degrees(angular_separation(lon1[:, None], lat1[:, None], lon2[None], lat2[None])) * 3600


def test_pairs_equal_those_of_a_search_of_all_pairs() -> None:
    """At the poles, on both sides of RA 0, and with neighbours closer than the radius."""
    rng = np.random.default_rng(2)
    ra, dec = even_positions(500, rng)
    crowd = rng.normal(0, 2 / 3600, (2, 200))
    ra, dec = np.concatenate([ra, crowd[0] % 360]), np.concatenate([dec, crowd[1]])
    kept = rng.permutation(700)[:600]
    moved = (
        (ra[kept] + rng.normal(0, 0.3 / 3600, 600)) % 360,
        np.clip(dec[kept] + rng.normal(0, 0.3 / 3600, 600), -90, 90),
    )
    match = match_positions((ra, dec), moved, 1.5)
    apart = separations((ra, dec), moved)
    nearest, nearest_back = apart.argmin(axis=1), apart.argmin(axis=0)
    wanted = {
        (row, int(nearest[row]))
        for row in range(700)
        if nearest_back[nearest[row]] == row and apart[row, nearest[row]] <= 1.5
    }
    assert set(zip(match.old.tolist(), match.new.tolist(), strict=True)) == wanted
    assert len(wanted) > 500
    assert len(set(match.new.tolist())) == len(match.new)
    assert match.separation_arcsec == pytest.approx(apart[match.old, match.new], abs=1e-6)
    inside = apart <= 1.5
    choice = inside.any(axis=1) & ((inside.sum(axis=1) > 1) | (inside.sum(axis=0)[nearest] > 1))
    assert match.ambiguous == choice.sum() > 20


def test_of_two_old_positions_near_a_new_one_the_nearer_is_paired() -> None:
    """Both count as ambiguous."""
    second = 1 / 3600
    old = np.array([10.0, 10.0, 200.0]), np.array([0.0, 3 * second, 5.0])
    match = match_positions(old, (np.array([10.0, 200.0]), np.array([second, 5.0])), 2.5)
    assert (match.old.tolist(), match.new.tolist(), match.ambiguous) == ([0, 2], [0, 1], 2)
    assert match.separation_arcsec == pytest.approx([1, 0], abs=1e-6)


def test_the_radius_is_inclusive() -> None:
    old, new = (np.array([0.0]), np.array([0.0])), (np.array([0.0]), np.array([2 / 3600]))
    assert len(match_positions(old, new, 2.000001).old) == 1
    assert len(match_positions(old, new, 1.999999).old) == 0


@pytest.mark.parametrize(("old", "new"), [(0, 3), (3, 0), (0, 0)])
def test_empty_catalogs_have_no_matches(old: int, new: int) -> None:
    match = match_positions((np.zeros(old), np.zeros(old)), (np.zeros(new), np.zeros(new)), 1.0)
    assert (len(match.old), len(match.new), match.ambiguous) == (0, 0, 0)
