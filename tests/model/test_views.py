import numpy as np
import pytest
from scipy.special import softmax

from galaxy_batch.model.output import ViewOutput
from galaxy_batch.model.views import combined, margin, view_numbers, view_of


def test_the_eight_views_are_the_symmetries_of_a_square() -> None:
    square = np.arange(9, dtype=np.uint8).reshape(3, 3)
    views = {view_of(square, number).tobytes() for number in view_numbers(8)}
    assert views == {np.rot90(image, turns).tobytes() for image in (square, square.T) for turns in range(4)}
    assert np.array_equal(view_of(square, 0), square)
    assert [list(view_numbers(count)) for count in (1, 2, 4)] == [[0], [0, 4], [0, 2, 4, 6]]


@pytest.mark.parametrize("averaged", [1, 4])
def test_views_together(averaged: int) -> None:
    numbers = np.random.default_rng(0)
    logits = numbers.normal(0, 30, (4, 6, 3)).astype(np.float32)
    squared = numbers.uniform(0.1, 3, (4, 6)).astype(np.float32)
    concentrations, embedding = squared[..., None] + [1, 2], logits[..., :2]
    output = combined(ViewOutput(logits, squared, concentrations.astype(np.float32), embedding), averaged)
    probabilities = softmax(logits.astype(float), axis=2)
    mean = softmax(output.class_logits.astype(float), axis=1)
    assert np.allclose(mean, probabilities[:averaged].mean(axis=0), atol=1e-6)
    assert np.allclose(output.unfamiliarity**2, squared[:averaged].mean(axis=0), atol=1e-5)
    assert np.allclose(output.instability, probabilities.std(axis=0).max(axis=1), atol=1e-6)
    assert np.allclose(output.concentrations, concentrations[:averaged].mean(axis=0))
    assert np.allclose(output.embedding, embedding[:averaged].mean(axis=0), atol=1e-5)
    assert {values.dtype for values in output} == {np.dtype(np.float32)}


def test_views_that_are_not_computed_do_not_count() -> None:
    numbers = np.random.default_rng(1)
    shapes = (4, 5, 2), (4, 5), (4, 5, 3), (4, 5, 0)
    full = ViewOutput(*(numbers.uniform(1, 2, shape).astype(np.float32) for shape in shapes))
    partly = full.map(np.copy)
    for values in partly:
        values[1:, [0, 3]] = np.nan
    output, all_views, one_view = combined(partly, 4), combined(full, 4), combined(full.map(lambda v: v[:1]), 1)
    for values, of_all, of_one in zip(output, all_views, one_view, strict=True):
        assert np.array_equal(values[[1, 2, 4]], of_all[[1, 2, 4]])
        assert np.array_equal(values[[0, 3]], of_one[[0, 3]], equal_nan=True)
    assert np.isnan(output.instability).tolist() == [True, False, False, True, False]


def test_the_margin_is_between_the_two_largest_logits() -> None:
    assert margin(np.array([[1, 5, 2], [3, 3, 0], [-1, -4, -9]], np.float32)).tolist() == [3, 0, 3]
