import math

import numpy as np
import pytest

from galaxy_batch.compare.drift import find_shift, ks_statistic, population_stability_index, quantile_edges


def test_psi_by_hand() -> None:
    """Shares 0.2, 0.8 against 0.5, 0.5, after half a row more in each bin: 20.5, 80.5 and 50.5, 50.5 of 101."""
    p, q = (20.5 / 101, 80.5 / 101), (0.5, 0.5)
    wanted = sum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))
    assert population_stability_index([20, 80], [50, 50]) == pytest.approx(wanted)
    assert population_stability_index([20e6, 80e6], [50e6, 50e6]) == pytest.approx(0.3 * math.log(4), abs=1e-6)


def test_psi_at_its_ends() -> None:
    assert population_stability_index([3, 4, 5], [3, 4, 5]) == 0
    assert population_stability_index([3, 4], [4, 3]) == population_stability_index([4, 3], [3, 4])
    assert math.isfinite(population_stability_index([10, 0], [0, 10]))
    assert population_stability_index([10, 0], [0, 10]) > 3
    assert math.isnan(population_stability_index([0, 0], [1, 2]))


def test_ks_by_hand() -> None:
    assert ks_statistic(np.array([1.0, 2, 3, 4]), np.array([3.0, 4, 5, 6])) == 0.5
    assert ks_statistic(np.array([1.0, 2]), np.array([5.0])) == 1
    assert ks_statistic(np.array([0.5, 0.5, 0.5]), np.array([0.5])) == 0
    assert ks_statistic(np.array([2.0, 1, 3]), np.array([3.0, 2, 1])) == 0
    assert math.isnan(ks_statistic(np.empty(0), np.array([1.0])))


def test_ks_of_normals_that_lie_apart() -> None:
    """Half a standard deviation apart: 2 Φ(1/4) − 1 = 0.1974."""
    rng = np.random.default_rng(3)
    statistic = ks_statistic(rng.normal(0, 1, 200_000), rng.normal(0.5, 1, 100_000))
    assert statistic == pytest.approx(0.1974, abs=0.004)


def test_edges_hold_as_many_values_each() -> None:
    values = np.random.default_rng(1).random(1000)
    edges = quantile_edges(values, 4)
    assert np.isinf(edges[[0, -1]]).all()
    assert np.histogram(values, edges)[0].tolist() == [250] * 4


@pytest.mark.parametrize("values", [np.zeros(10), np.array([1.0]), np.array([0.0] * 9 + [1.0])])
def test_edges_of_equal_values_make_no_empty_bins(values: np.ndarray) -> None:
    edges = quantile_edges(values, 10)
    members = np.searchsorted(edges[1:-1], values, "right")
    assert np.bincount(members, minlength=len(edges) - 1).all()


def test_effect_sizes_by_chance() -> None:
    rng = np.random.default_rng(4)
    old = rng.random(2000).astype(np.float32)
    draws = [find_shift(old, rng.random(1000).astype(np.float32), (old[:0], old[:0])) for _ in range(200)]
    assert np.mean([d.psi for d in draws]) == pytest.approx(draws[0].psi_by_chance, rel=0.35)  # the old one is fixed
    assert np.mean([d.ks > d.ks_by_chance for d in draws]) == pytest.approx(0.05, abs=0.05)


def test_changes_that_cancel_are_visible_in_pairs() -> None:
    old = np.linspace(0, 1, 1001, dtype=np.float32)
    new = old[::-1].copy()
    shift = find_shift(old, new, (old, new))
    assert shift.psi == pytest.approx(0, abs=1e-4)
    assert shift.ks == pytest.approx(0, abs=2e-3)
    assert shift.mean_change == pytest.approx(0.5, abs=1e-3)
    assert shift.joint_histogram.sum() == shift.old_histogram.sum() == 1001
    assert shift.joint_histogram.diagonal().sum() < 5
    assert shift.joint_histogram[::-1].diagonal().sum() > 900


def test_missing_values_are_ignored() -> None:
    nan = np.float32("nan")
    old, new = np.array([0.2, nan, 0.4], np.float32), np.array([nan, 0.3, 0.5], np.float32)
    shift = find_shift(old, new, (old, new))
    assert (shift.old_rows, shift.new_rows) == (2, 2)
    assert shift.mean_change == pytest.approx(0.1)
    nothing = find_shift(old[:0], new, (old[:0], new[:0]))
    assert all(math.isnan(x) for x in (nothing.psi, nothing.ks, nothing.old_mean, nothing.mean_change))


def test_rounding_errors_of_equal_predictions_are_no_shift() -> None:
    """Many rows share one value, such as those of a placeholder."""
    old = np.repeat(np.float32([0.2, 0.49, 0.8]), [5, 10, 5])
    new = np.nextafter(old, np.float32(1))
    shift = find_shift(old, new, (old, new))
    assert (shift.ks, shift.psi) == (0, 0)
