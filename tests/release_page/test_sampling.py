import numpy as np
import pytest

from galaxy_batch.release_page.sampling import GroupSampler


def sampler_of(groups: list[np.ndarray], size: int, seed: int = 0, count: int = 4) -> GroupSampler:
    """A sampler that was offered two row groups of each file."""
    sampler = GroupSampler(count, size, seed)
    for number, group in enumerate(groups):
        sampler.add(group, number // 2, number % 2)
    return sampler


def groups(seed: int, sizes: tuple[int, ...] = (500, 300, 0, 700)) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(-1, 4, size) for size in sizes]


def test_rows_with_the_lowest_random_numbers_are_kept() -> None:
    given = groups(1)
    sampler = sampler_of(given, 5)
    numbers = {
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
        assert sampler.sample(wanted) == sorted(members, key=numbers.__getitem__)[:5]


def test_small_groups_are_sampled_completely_and_rows_without_a_group_never() -> None:
    sampler = sampler_of([np.array([-1, 0, -1, 0]), np.array([2])], 5)
    assert sorted(sampler.sample([0])) == [(0, 0, 1), (0, 0, 3)]
    assert sampler.sample([1]) == []
    assert sampler.sample([2]) == [(0, 1, 0)]
    assert sampler_of(groups(1), 0).sample([0, 1, 2, 3]) == []


def test_the_seed_fixes_the_sample() -> None:
    assert sampler_of(groups(1), 5).sample([0]) == sampler_of(groups(1), 5).sample([0])
    assert sampler_of(groups(1), 5).sample([0]) != sampler_of(groups(1), 5, seed=1).sample([0])


def test_every_row_is_equally_likely() -> None:
    times = np.zeros(20)
    for seed in range(600):
        for file, row_group, row in sampler_of([np.zeros(10, int), np.zeros(10, int)], 4, seed, 1).sample([0]):
            assert file == 0
            times[row_group * 10 + row] += 1
    assert times.sum() == 2400
    assert times.mean() == pytest.approx(120)
    assert np.abs(times - 120).max() < 5 * np.sqrt(120 * 0.8)


def test_given_keys_decide_in_place_of_random_numbers() -> None:
    keys = np.random.default_rng(3).random((4, 200))
    sampler = GroupSampler(2, 3, seed=0)
    for row_group in range(4):
        sampler.add(np.arange(200) % 2, 0, row_group, keys[row_group])
    for group in (0, 1):
        kept = sampler.keys([group])
        assert list(kept) == sampler.sample([group])
        assert list(kept.values()) == sorted(keys[:, group::2].ravel())[:3]
        assert [keys[location.row_group, location.row] for location in kept] == list(kept.values())
