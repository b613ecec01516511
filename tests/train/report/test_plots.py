import struct
import sys
from collections.abc import Callable

import matplotlib
import numpy as np
import pytest
import torch

from train.evaluate.calibration import calibration_error_by_chance, expected_calibration_error, reliability_bins
from train.evaluate.evaluation import (
    accuracy_by_confidence,
    bootstrap_interval,
    class_scores,
    review_at,
)
from train.fit.fit import Epoch
from train.report.plots import (
    confusion_matrix,
    coverage_curve,
    learning_curves,
    reliability_diagram,
    two_histograms,
    vote_histograms,
)
from train.report.sheets import Picture, attention_sheet, contact_sheet

NAN = float("nan")
CONFIDENCE = np.array([0.99, 0.9, 0.8, 0.7, 0.6])
CORRECT = np.array([True, True, False, True, False])
EPOCHS = [Epoch("head", 1, 0.7, 0.6, 0.65, 0.62, 3.0), Epoch("blocks", 1, 0.5, 0.7, NAN, NAN, 9.0)]
CUTOUT = torch.full((3, 16, 16), 90, dtype=torch.uint8)
MAP = torch.linspace(0, 1, 256).view(16, 16)
SEEN = Picture(CUTOUT, ("smooth $x_1$", "0.9"), MAP, MAP > 0.5)
NOTHING_SEEN = Picture(CUTOUT, ("?",), torch.full((16, 16), torch.nan), torch.zeros(16, 16, dtype=torch.bool))


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


@pytest.mark.parametrize(
    "draw",
    [
        lambda: vote_histograms({"smooth": CONFIDENCE, "odd & <new>": 1 - CONFIDENCE}, 0.6),
        lambda: learning_curves(EPOCHS),
        lambda: confusion_matrix([[5, 1, 0], [2, 7, 0], [0, 0, 0]], ("a", "b", "c")),
        lambda: two_histograms(
            [("x", CONFIDENCE, CONFIDENCE[:0]), ("y", np.array([NAN]), CONFIDENCE)], [(0.5, 1), (0, 3)], [None, 1.0]
        ),
        lambda: reliability_diagram({"before": reliability_bins(CONFIDENCE, CORRECT), "after": []}, 2),
        lambda: coverage_curve(accuracy_by_confidence(CONFIDENCE, CORRECT), (0.95,), review_at(CONFIDENCE, CORRECT, 1)),
        lambda: coverage_curve(np.array([1.0]), (0.95, 0.98), review_at(CONFIDENCE[:1], CORRECT[:1], 0.5)),
        lambda: contact_sheet([("smooth", [SEEN] * 9), ("none", [])]),
        lambda: attention_sheet([SEEN], [NOTHING_SEEN]),
        lambda: attention_sheet([], []),
    ],
)
def test_every_figure_is_a_png_and_drawn_the_same_again(draw: Callable[[], bytes]) -> None:
    first = draw()
    width, height = size_of(first)
    assert 300 < width <= 1500
    assert 300 < height <= 1500
    assert draw() == first


def test_drawing_leaves_no_state() -> None:
    before = dict(matplotlib.rcParams)
    vote_histograms({"a": CONFIDENCE}, 0.6)
    assert dict(matplotlib.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_the_bootstrap_agrees_with_the_standard_error_of_a_mean() -> None:
    sample = np.random.default_rng(1).normal(5, 1, 400)
    low, high = bootstrap_interval(np.mean, sample)
    assert (high - low) / 2 == pytest.approx(1.96 / 20, rel=0.15)
    assert low < 5 < high
    assert bootstrap_interval(np.mean, sample) == (low, high)
    two = bootstrap_interval(lambda a, b: a.mean() - b.mean(), sample, sample + 1)
    assert two[0] < -1 < two[1]
    assert np.isnan(bootstrap_interval(np.mean, sample, sample[:0])).all()


def test_the_interval_of_a_calibration_error_holds_it() -> None:
    """Plain percentiles of resampled errors lie above the error: repeated galaxies are a calibration error."""
    generator = np.random.default_rng(6)
    confidence = generator.uniform(0.5, 1, 600)
    correct = generator.random(600) < confidence

    def error(rows: np.ndarray) -> float:
        return expected_calibration_error(confidence[rows], correct[rows])

    rows = np.arange(600)
    plain, moved = (bootstrap_interval(error, rows, resamples=200, unbiased=value) for value in (True, False))
    assert moved[0] < error(rows) < moved[1]
    assert moved[1] < plain[1]
    assert moved[1] - moved[0] == pytest.approx(plain[1] - plain[0])


def test_class_scores_by_hand() -> None:
    first, second, third = class_scores([[8, 2, 0], [1, 9, 0], [0, 0, 0]])
    assert (first.precision, first.recall) == pytest.approx((8 / 9, 0.8))
    assert (second.precision, second.recall) == pytest.approx((9 / 11, 0.9))
    assert third.galaxies == third.predicted == 0
    assert np.isnan([third.precision, third.recall]).all()


def test_review_leaves_what_it_should() -> None:
    assert accuracy_by_confidence(CONFIDENCE, CORRECT).tolist() == pytest.approx([1, 1, 2 / 3, 0.75, 0.6])
    outcome = review_at(CONFIDENCE, CORRECT, 0.8)
    assert (outcome.kept, outcome.reviewed_share, outcome.accuracy) == pytest.approx((3, 0.4, 2 / 3))
    nothing = review_at(CONFIDENCE, CORRECT, 1.0)
    assert nothing.kept == 0
    assert np.isnan(nothing.accuracy)


def test_reliability_bins_hold_every_galaxy_once() -> None:
    bins = reliability_bins(CONFIDENCE, CORRECT, bins=2)
    assert [b.galaxies for b in bins] == [3, 2]
    assert [b.right for b in bins] == [1, 2]
    assert bins[0].confidence == pytest.approx(0.7)
    assert reliability_bins(CONFIDENCE[:0], CORRECT[:0]) == []


def test_chance_alone_makes_a_calibration_error() -> None:
    confidence = np.random.default_rng(2).uniform(0.5, 1, 600)
    chance = calibration_error_by_chance(confidence)
    assert 0.02 < chance < 0.08
    correct = np.random.default_rng(3).random(600) < confidence
    assert expected_calibration_error(confidence, correct) == pytest.approx(chance, abs=0.025)
    assert calibration_error_by_chance(np.tile(confidence, 20)) < chance / 3
    assert np.isnan(calibration_error_by_chance(confidence[:0]))
