import struct
import sys
from collections.abc import Callable

import matplotlib
import numpy as np
import pytest
import torch

from train.evaluate.calibration import accuracy_by_confidence, reliability_bins
from train.evaluate.evaluation import review_at
from train.fit.fit import Epoch
from train.report.plots import (
    confusion_matrix,
    coverage_curve,
    learning_curves,
    reliability_diagram,
    two_histograms,
    vote_histograms,
)
from train.report.sheets import Picture, contact_sheet, grad_cam_sheet

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
        lambda: grad_cam_sheet([SEEN], [NOTHING_SEEN]),
        lambda: grad_cam_sheet([], []),
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
