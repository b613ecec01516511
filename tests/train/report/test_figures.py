from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from galaxy_batch.report.figures import embed
from train.evaluate.calibration import accuracy_by_confidence, reliability_bins
from train.evaluate.evaluation import review_at
from train.fit.fit import Epoch
from train.report.figures import (
    ReportFigures,
    accuracy_after_review,
    learning_curves,
    outcome_histograms,
    reliability_diagram,
    threshold_curves,
    vote_histograms,
)

NAN = float("nan")
CONFIDENCE = np.array([0.99, 0.9, 0.8, 0.7, 0.6])
CORRECT = np.array([True, True, False, True, False])
EPOCHS = [Epoch("head", 1, 0.7, 0.6, 0.65, 0.62, 3.0), Epoch("blocks", 1, 0.5, 0.7, NAN, NAN, 9.0)]
ACCURACY = accuracy_by_confidence(CONFIDENCE, CORRECT)


@pytest.mark.parametrize(
    "draw",
    [
        lambda width: vote_histograms(width, {"smooth": CONFIDENCE, "odd & <new>": 1 - CONFIDENCE}, 0.6),
        lambda width: vote_histograms(width, {"smooth": CONFIDENCE}, 0.6, others=1 - CONFIDENCE),
        lambda width: learning_curves(width, EPOCHS),
        lambda width: outcome_histograms(
            width,
            [("x", CONFIDENCE, CONFIDENCE[:0]), ("y", np.array([NAN]), CONFIDENCE)],
            [(0.5, 1), (0, 3)],
            [None, 1],
        ),
        lambda width: reliability_diagram(
            width, {"before": reliability_bins(CONFIDENCE, CORRECT), "after": []}, classes=2
        ),
        lambda width: accuracy_after_review(width, ACCURACY, (0.95,), review_at(CONFIDENCE, CORRECT, 1)),
        lambda width: accuracy_after_review(width, ACCURACY[:1], (0.95,), review_at(CONFIDENCE[:1], CORRECT[:1], 0.5)),
        lambda width: accuracy_after_review(
            width, np.linspace(1, 0.8, 5000), (0.95,), review_at(CONFIDENCE, CORRECT, 0.5)
        ),
        lambda width: threshold_curves(width, [0.5, 0.6], [0.9, 0.7], {"own": [0.8, 0.9], "common": [0.85, 0.86]}),
    ],
)
def test_figures_draw_in_both_layouts(draw: Callable[[int], Figure]) -> None:
    html = embed(draw, "label")
    assert html.count("<svg") == 2
    assert len(html) < 200_000


def test_wide_histograms_have_a_column_per_quantity_and_narrow_ones_keep_quantities_together() -> None:
    quantities = [("x", CONFIDENCE, CONFIDENCE), ("y", CONFIDENCE, CONFIDENCE)]
    for width, labels in ((900, ["", "", "x", "y"]), (358, ["", "x", "", "y"])):
        figure = outcome_histograms(width, quantities, [(0, 1), (0, 1)], [None, None])
        assert [axis.get_xlabel() for axis in figure.axes] == labels


def test_figures_are_also_png_files() -> None:
    figures = ReportFigures()
    assert "<svg" in figures.embed("curves", lambda width: learning_curves(width, EPOCHS), "label")
    assert figures.png_files["curves.png"].startswith(b"\x89PNG")
