import numpy as np
import pytest

from galaxy_batch.release_page.sampling import GroupSampler


def lot_of(groups: list[np.ndarray], drawn: int, seed: int = 0, count: int = 4) -> GroupSampler:
    lot = GroupSampler(count, drawn, seed)
    for number, group in enumerate(groups):
        lot.add(group, number // 2, number % 2)
    return lot


def groups(seed: int, sizes: tuple[int, ...] = (500, 300, 0, 700)) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(-1, 4, size) for size in sizes]


def test_the_lowest_lots_of_each_group_win() -> None:
    given = groups(1)
    lot = lot_of(given, 5)
    lots = {
        (number // 2, number % 2, row): value
        for number, group in enumerate(given)
        for row, value in enumerate(np.random.default_rng((0, number // 2, number % 2)).random(len(group)))
    }
    for wanted in ([0], [3], [1, 2], [0, 1, 2, 3]):
        members = [
            (n // 2, n % 2, row)
            for n, group in enumerate(given)
            for row in np.flatnonzero(np.isin(group, wanted)).tolist()
        ]
        assert lot.of(wanted) == sorted(members, key=lots.__getitem__)[:5]


def test_few_rows_are_all_drawn_and_none_without_a_group() -> None:
    lot = lot_of([np.array([-1, 0, -1, 0]), np.array([2])], 5)
    assert sorted(lot.of([0])) == [(0, 0, 1), (0, 0, 3)]
    assert lot.of([1]) == []
    assert lot.of([2]) == [(0, 1, 0)]
    assert lot_of(groups(1), 0).of([0, 1, 2, 3]) == []


def test_the_seed_decides() -> None:
    assert lot_of(groups(1), 5).of([0]) == lot_of(groups(1), 5).of([0])
    assert lot_of(groups(1), 5).of([0]) != lot_of(groups(1), 5, seed=1).of([0])


def test_every_row_has_the_same_chance() -> None:
    times = np.zeros(20)
    for seed in range(600):
        for file, row_group, row in lot_of([np.zeros(10, int), np.zeros(10, int)], 4, seed, 1).of([0]):
            assert file == 0
            times[row_group * 10 + row] += 1
    assert times.sum() == 2400
    assert times.mean() == pytest.approx(120)
    assert np.abs(times - 120).max() < 5 * np.sqrt(120 * 0.8)
