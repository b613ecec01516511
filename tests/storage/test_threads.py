import pytest

from galaxy_batch.storage.threads import map_in_threads


def test_results_come_in_the_order_of_the_items() -> None:
    assert map_in_threads(lambda n: n * n, list(range(50))) == [n * n for n in range(50)]


def test_an_error_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        map_in_threads(lambda n: 1 // n, [1, 0])
