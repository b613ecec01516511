import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from galaxy_batch.report.figures import bars, curve, histograms, round_ticks

HOSTILE = '"><script>alert(1)</script>&'


def texts(drawing: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(drawing).iter() if element.tag.endswith("text")]


def boxes(drawing: str) -> list[dict[str, float]]:
    found = [element for element in ElementTree.fromstring(drawing).iter() if element.tag.endswith("rect")]
    return [{name: float(box.attrib[name]) for name in ("x", "y", "width", "height")} for box in found]


def test_bars_are_as_long_as_their_counts() -> None:
    drawing = bars([("smooth", 300), (HOSTILE, 100), ("none", 0)])
    long, short, nothing = boxes(drawing)
    assert long["width"] == pytest.approx(3 * short["width"], rel=0.01)
    assert nothing["width"] <= 0.1
    assert any("300 (75.0%)" in words for words in texts(drawing))
    assert len(texts(bars([("smooth", 0)]))) == 2  # no share of nothing


def test_histograms_have_a_bar_for_each_bin_that_has_some() -> None:
    drawing = histograms({"a": np.array([0, 5, 10]), HOSTILE: np.zeros(3, np.int64)}, 0.4, mark=0.5)
    shown = boxes(drawing)
    assert [box["height"] for box in shown] == pytest.approx([60, 120], abs=0.1)
    assert shown[1]["x"] - shown[0]["x"] == pytest.approx(shown[0]["width"] + 1, abs=0.2)
    assert drawing.count("stroke-dasharray") == 2
    label = ElementTree.fromstring(drawing).attrib["aria-label"]
    assert "a: 15 galaxies, half of them under 1.00" in label
    assert "no galaxies" in label


def test_a_curve_goes_through_its_points() -> None:
    drawing = curve(np.array([0, 0.5]), np.array([0.9, 1.0]), "x", "y", {HOSTILE: (0.25, 0.8)})
    (points,) = re.findall(r'points="([^"]*)"', drawing)
    (x0, y0), (x1, y1) = (tuple(map(float, point.split(","))) for point in points.split())
    assert x0 < x1
    assert y1 < y0  # upwards
    assert ElementTree.fromstring(drawing) is not None
    assert "80%" in texts(drawing)  # the axis reaches down to the mark


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(1, 10))
def test_ticks_are_round_and_within(low: float, width: float, about: int) -> None:
    high = low + width
    ticks = round_ticks(low, high, about)
    assert len(ticks) <= about + 1
    assert all(low - 1e-6 * width <= tick <= high + 1e-6 * width for tick in ticks)
    if len(ticks) > 1:
        step = (ticks[-1] - ticks[0]) / (len(ticks) - 1)
        digit = step / 10 ** math.floor(math.log10(step) + 1e-9)
        assert min(abs(digit - round_one) for round_one in (1, 2, 5, 10)) < 1e-3
    assert round_ticks(3.0, 3.0, 5) == [3.0]
