import math

import numpy as np
import pytest

from galaxy_batch.stats import difference_error, wilson_interval


def test_wilson_by_hand_and_at_the_ends() -> None:
    low, high = wilson_interval(90, 100)
    assert (low, high) == pytest.approx((0.8256, 0.9448), abs=1e-4)
    assert wilson_interval(0, 0) == (0, 1)
    assert wilson_interval(10, 10)[1] == pytest.approx(1)
    assert wilson_interval(0, 10)[0] == pytest.approx(0)


def test_nothing_in_common_is_the_error_of_independent_samples() -> None:
    """Agresti and Caffo's: a hit and a miss more on each side."""
    p, q = 31 / 102, 61 / 202
    wanted = math.sqrt(p * (1 - p) / 102 + q * (1 - q) / 202)
    assert difference_error((30, 100), (60, 200), (0, 0, 0, 0)) == pytest.approx(wanted)


def test_everything_in_common_is_the_error_of_pairs() -> None:
    """Of 100 pairs 20 lose the class and 8 gain it; half a pair more in each cell (Agresti and Min)."""
    lost, gained, n = 20.5, 8.5, 102
    wanted = math.sqrt((lost + gained) - (lost - gained) ** 2 / n) / n
    assert difference_error((50, 100), (38, 100), (30, 50, 38, 100)) == pytest.approx(wanted)


def test_no_members_and_sure_shares_are_not_certain() -> None:
    assert difference_error((0, 0), (0, 0), (0, 0, 0, 0)) > 0.3
    assert difference_error((3, 3), (0, 3), (0, 3, 0, 3)) > 0.1


def test_the_error_is_the_scatter_of_many_samples_that_overlap_in_part() -> None:
    rng, size = np.random.default_rng(5), 400
    common = rng.random((3000, size)) < 0.3
    after = np.where(rng.random(common.shape) < 0.1, ~common, common)  # one in ten changes
    only_old, only_new = rng.random((3000, 200)) < 0.3, rng.random((3000, 300)) < 0.34
    hits1, hits2 = common.sum(1) + only_old.sum(1), after.sum(1) + only_new.sum(1)
    shared = ((common & after).sum(1), common.sum(1), after.sum(1), np.full(3000, size))
    errors = difference_error((hits1, 600), (hits2, 700), shared)
    assert errors.mean() == pytest.approx((hits2 / 700 - hits1 / 600).std(), rel=0.05)
