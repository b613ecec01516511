import numpy as np
import pytest
from scipy.special import softmax

from galaxy_batch.model.output import ViewOutput
from galaxy_batch.model.views import combined, view_numbers, view_of


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
    output = combined(ViewOutput(logits, squared, logits[..., :0], logits[..., :0]), averaged)
    probabilities = softmax(logits.astype(float), axis=2)
    mean = softmax(output.class_logits.astype(float), axis=1)
    assert np.allclose(mean, probabilities[:averaged].mean(axis=0), atol=1e-6)
    assert np.allclose(output.unfamiliarity**2, squared[:averaged].mean(axis=0), atol=1e-5)
    assert np.allclose(output.instability, probabilities.std(axis=0).max(axis=1), atol=1e-6)
    assert {values.dtype for values in output} == {np.dtype(np.float32)}
