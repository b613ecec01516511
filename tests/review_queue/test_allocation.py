"""How many galaxies of each stratum are drawn."""

import numpy as np

from galaxy_batch.review_queue.allocation import optimal_allocation


def test_doubtful_and_large_strata_get_more() -> None:
    drawn = optimal_allocation(400, np.array([10_000, 10_000, 40_000]), np.array([0.5, 0.9, 0.9]))
    assert drawn.tolist() == [100, 60, 240]  # in proportion to 10,000 x 0.5, 10,000 x 0.3 and 40,000 x 0.3


def test_no_stratum_is_believed_to_be_free_of_errors() -> None:
    drawn = optimal_allocation(300, np.array([100_000, 100_000]), np.array([0.8, 1 - 1e-9]))
    assert drawn.tolist() == [240, 60]


def test_every_stratum_has_a_few_and_none_more_than_it_has() -> None:
    drawn = optimal_allocation(100, np.array([0, 3, 50, 1_000_000]), np.array([0.5, 0.6, 0.6, 0.99]))
    assert drawn.tolist() == [0, 3, 5, 100]


def test_an_empty_catalog_has_nothing_to_draw() -> None:
    assert optimal_allocation(100, np.zeros(2, np.int64), np.zeros(2)).tolist() == [0, 0]
