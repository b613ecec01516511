"""Estimates of shares and their intervals: weights, limits, and coverage over many simulated queues."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from galaxy_batch.audit.estimate import (
    FINE_BINS,
    NO_ESTIMATE,
    Estimate,
    calibration_error,
    estimate_share,
    represents,
    weighted_sample,
)
from galaxy_batch.stats import wilson_interval
from tests.support.reviews import DESIGNS, KnownGalaxies, draw, known_galaxies, sample_of

QUEUES = 1000
FEW = 5  # rows of the rarer outcome, in the effective sample, below which no interval covers exactly 95%
HIGHEST = {"stratified": 0.99, "optimal": 0.985}  # with few rows in a stratum, its variance is overestimated


def one_cell(probability: float, size: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    counts = np.zeros((1, FINE_BINS), np.int64)
    counts[0, 150] = round(size / probability)
    return np.full(size, probability), counts


def simple_sample(size: int, probability: float = 1e-6):
    given, counts = one_cell(probability, size)
    return weighted_sample(given, np.zeros(size, np.int64), np.full(size, 150), counts)


def test_a_small_share_of_a_large_catalog_has_about_wilsons_interval() -> None:
    hit = np.arange(400) < 340
    estimate = estimate_share(simple_sample(400), np.ones(400, np.bool_), hit)
    assert estimate.value == pytest.approx(0.85)
    assert estimate.interval == pytest.approx(wilson_interval(340, 400), abs=1e-3)
    assert estimate.effective == pytest.approx(400, rel=0.02)


def test_half_of_the_catalog_leaves_half_of_the_variance() -> None:
    hit, everyone = np.arange(400) < 300, np.ones(400, np.bool_)
    few, half = (estimate_share(simple_sample(400, p), everyone, hit) for p in (1e-6, 0.5))
    assert (half.high - half.low) / (few.high - few.low) == pytest.approx(0.5**0.5, rel=0.01)


def test_what_was_looked_at_completely_has_no_error() -> None:
    sample = weighted_sample(np.ones(9), np.zeros(9, np.int64), np.full(9, 100), np.zeros((1, FINE_BINS), np.int64))
    estimate = estimate_share(sample, np.ones(9, np.bool_), np.arange(9) < 6)
    assert estimate.interval == (estimate.value, estimate.value) == pytest.approx((2 / 3, 2 / 3))


@pytest.mark.parametrize("hits", [0, 300])
def test_a_share_of_0_or_1_has_an_error(hits: int) -> None:
    estimate = estimate_share(simple_sample(300), np.ones(300, np.bool_), np.arange(300) < hits)
    assert estimate.high - estimate.low == pytest.approx(3.85 / 300, rel=0.05)
    assert hits / 300 in estimate.interval


def test_one_of_many_has_a_low_limit_near_0() -> None:
    """Wilson's own lower limit, 0.0018, covers a share of 0.0015 in 86% of all samples of 100 only."""
    hit = np.arange(100) < 1
    assert estimate_share(simple_sample(100), np.ones(100, np.bool_), hit).low == pytest.approx(0.000513, abs=2e-5)
    high = estimate_share(simple_sample(100), np.ones(100, np.bool_), ~hit).high
    assert high == pytest.approx(1 - 0.000513, abs=2e-5)


def test_nobody_is_no_estimate() -> None:
    assert estimate_share(simple_sample(9), np.zeros(9, np.bool_), np.ones(9, np.bool_)) is NO_ESTIMATE
    assert not NO_ESTIMATE.known


def test_weights_count_the_rows_of_each_cell() -> None:
    galaxies = known_galaxies(4000, 0.9, seed=2)
    drawn, probability = draw("union", 300, galaxies, np.random.default_rng(0))
    sample = sample_of(galaxies, drawn, probability)
    assert sample.weight.sum() == pytest.approx(4000)
    assert np.all(sample.weight[sample.certain] == 1)
    for label in (0, 1):
        of_class = galaxies.predicted[drawn] == label
        assert sample.weight[of_class].sum() == pytest.approx((galaxies.predicted == label).sum())
    assert np.bincount(sample.cell[~sample.certain]).min() >= 10


def test_without_a_population_the_weights_are_inverse_probabilities() -> None:
    probability = np.array([0.1, 0.5, 1.0])
    sample = weighted_sample(probability, np.zeros(3, np.int64), np.full(3, 100), None)
    np.testing.assert_allclose(sample.weight, [10, 2, 1])
    assert sample.certain.tolist() == [False, False, True]


def test_a_sample_that_leaves_rows_out_does_not_represent_them() -> None:
    assert represents(np.full(50, 0.01), 5000)
    assert represents(np.ones(5000), 5000)
    assert not represents(np.ones(500), 5000)
    assert not represents(np.full(100, 0.5), 5000)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_calibration_error_is_corrected_for_the_sampling(scale: float) -> None:
    shares = np.array([0.02, 0.03, 0.05, 0.1, 0.1, 0.2, 0.2, 0.3])
    differences = scale * np.array([0.1, -0.1, 0.08, 0.06, 0.05, 0.05, 0.03, 0.02])
    true, errors = float(np.abs(differences) @ shares), np.full(8, 0.02)
    noise = np.random.default_rng(1).standard_normal((300, 8)) * errors
    estimates = [calibration_error(shares, differences + row, errors) for row in noise]
    plain = np.mean([np.abs(differences + row) @ shares for row in noise])
    bias = abs(np.mean([estimate.value for estimate in estimates]) - true)
    assert bias < (0.5 * plain if scale == 0 else 0.002)
    covered = [estimate.low <= true <= estimate.high for estimate in estimates]
    assert np.mean(covered) > 0.9


def test_without_bins_there_is_no_calibration_error() -> None:
    assert calibration_error(np.zeros(0), np.zeros(0), np.zeros(0)) is NO_ESTIMATE


def shares(galaxies: KnownGalaxies) -> dict[str, tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]:
    """Members and hits of shares that an audit estimates."""
    everyone, correct = np.ones(len(galaxies.true), np.bool_), galaxies.correct
    return {
        "accuracy": (everyone, correct),
        "purity 0": (galaxies.predicted == 0, correct),
        "purity 1": (galaxies.predicted == 1, correct),
        "completeness 0": (galaxies.true == 0, correct),
        "completeness 1": (galaxies.true == 1, correct),
        "below 0.8": (galaxies.confidence < 0.8, correct),
        "above 0.9": (galaxies.confidence >= 0.9, correct),
        "share of 1": (everyone, galaxies.true == 1),
    }


def coverage(
    galaxies: KnownGalaxies, design: str, size: int, names: tuple[str, ...], seed: int = 0, queues: int = QUEUES
) -> dict[str, tuple[float, float]]:
    """By share: how many of the intervals have the truth, and the mean effective number of the rarer outcome."""
    wanted = {name: of for name, of in shares(galaxies).items() if name in names}
    truth = {name: hit[member].mean() for name, (member, hit) in wanted.items()}
    estimates: dict[str, list[Estimate]] = {name: [] for name in wanted}
    rng = np.random.default_rng(seed)
    for _ in range(queues):
        drawn, probability = draw(design, size, galaxies, rng)
        sample = sample_of(galaxies, drawn, probability)
        for name, (member, hit) in wanted.items():
            estimates[name].append(estimate_share(sample, member[drawn], hit[drawn]))
    return {
        name: (
            float(np.mean([e.low - 1e-9 <= truth[name] <= e.high + 1e-9 for e in of_share if e.known])),
            float(np.nanmean([e.effective for e in of_share])) * min(truth[name], 1 - truth[name]),
        )
        for name, of_share in estimates.items()
    }


@pytest.mark.parametrize("design", DESIGNS)
def test_the_interval_covers_the_accuracy(design: str) -> None:
    galaxies = known_galaxies(5000, 0.91, seed=1)
    (covered, _) = coverage(galaxies, design, 300, ("accuracy",))["accuracy"]
    assert 0.93 <= covered <= (0.97 if design != "stratified" else HIGHEST[design])


def test_without_the_probabilities_it_would_not() -> None:
    galaxies = known_galaxies(5000, 0.91, seed=1)
    drawn, probability = draw("union", 300, galaxies, np.random.default_rng(0))
    sample = sample_of(galaxies, drawn, probability)
    estimate = estimate_share(sample, np.ones(len(drawn), np.bool_), galaxies.correct[drawn])
    assert abs(estimate.value - galaxies.correct.mean()) < 0.03
    assert galaxies.correct[drawn].mean() < galaxies.correct.mean() - 0.1


def cases() -> list[tuple[str, int, float]]:
    return list(itertools.product(DESIGNS, (100, 300, 1000), (0.75, 0.91, 0.985)))


@pytest.mark.slow
@pytest.mark.parametrize(("design", "size", "accuracy"), cases())
def test_every_interval_covers_its_share(design: str, size: int, accuracy: float) -> None:
    galaxies = known_galaxies(20_000, accuracy, seed=3)
    covered = coverage(galaxies, design, size, tuple(shares(galaxies)))
    assert covered["accuracy"][0] >= 0.93
    assert min(share for share, _ in covered.values()) >= 0.90
    assert np.mean([share for share, _ in covered.values()]) >= 0.94
    if design not in HIGHEST or (design == "optimal" and size > 300):
        assert covered["accuracy"][0] <= 0.97 or covered["accuracy"][1] < FEW
        enough = [share for share, rarer in covered.values() if FEW <= rarer < size]
        assert not enough or max(enough) <= (0.98 if design != "optimal" else 0.995)
    elif covered["accuracy"][1] >= FEW:
        assert covered["accuracy"][0] <= HIGHEST[design]


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
def test_the_interval_covers_the_accuracy_of_an_overconfident_model(design: str) -> None:
    galaxies = known_galaxies(20_000, 0.75, seed=3, overconfidence=4)
    assert galaxies.confidence.mean() > 0.88
    for name, (share, _) in coverage(galaxies, design, 300, tuple(shares(galaxies))).items():
        assert 0.92 <= share <= 0.98, name
