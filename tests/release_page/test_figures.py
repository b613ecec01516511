import numpy as np
import pytest

from galaxy_batch.release_page.figures import answer_distributions, confidence_histograms, review_curve

HOSTILE = '"><script>alert(1)</script>&'


@pytest.mark.parametrize("width", [900, 358])
def test_histograms_have_the_counts_of_each_class(width: int) -> None:
    figure = confidence_histograms(width, {"a": np.array([0, 5, 10]), HOSTILE: np.zeros(3, np.int64)}, 0.4, 0.5)
    first, second = figure.axes
    assert first.patches[0].get_data().values.tolist() == [0, 5, 10]
    assert first.get_xlim() == (0.4, 1)
    assert [axis.lines[0].get_xdata()[0] for axis in (first, second)] == [0.5, 0.5]
    assert first.get_title(loc="left") == "a: 15"


def test_the_curve_has_its_points_and_ends_at_100_percent() -> None:
    figure = review_curve(900, np.array([0, 0.5]), np.array([0.9, 1.0]), (0.25, 0.8))
    (axis,) = figure.axes
    curve, dot = axis.lines
    assert curve.get_xydata().tolist() == [[0, 0.9], [0.5, 1.0]]
    assert dot.get_xydata().tolist() == [[0.25, 0.8]]
    assert axis.get_ylim() == (0.8, 1)  # low enough for the dot


@pytest.mark.parametrize("width", [900, 358])
def test_answers_are_drawn_from_top_to_bottom_as_square_roots(width: int) -> None:
    counts = {"yes": np.array([100, 25, 0]), HOSTILE: np.zeros(3, np.int64)}
    figure = answer_distributions(width, counts)
    (axis,) = figure.axes
    upper, lower = (patch.get_data() for patch in axis.patches)
    assert np.allclose(upper.values - 1, [0.85, 0.425, 0])
    assert upper.baseline == 1
    assert lower.values.tolist() == [0, 0, 0]
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels[0] == "yes"
    assert len(labels[1]) <= 20
