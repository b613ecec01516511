import numpy as np
import pytest

from galaxy_batch.compare.class_mix import bin_mix, class_mix, sky_mix
from galaxy_batch.sky.healpix import pixels_at
from tests.support.skies import even_positions

NO_PAIRS = np.empty(0, np.int64), np.empty(0, np.int64)


def labels(*classes: int) -> np.ndarray:
    return np.array(classes, np.int8)


def test_shares_by_hand() -> None:
    """Rows without a class or a group are not counted."""
    old, new = labels(0, 0, 0, 1, 1, -1, 0), labels(0, 1, 1, 1, 0)
    members = np.array([0, 0, 0, 0, 1, 1, -1]), np.array([0, 0, 0, 0, 2])
    mix = class_mix("size", ["a", "b", "c"], (old, new), members, NO_PAIRS, 2)
    assert mix.old_rows.tolist() == [4, 1, 0]
    assert mix.new_rows.tolist() == [4, 0, 1]
    assert mix.old_share[:2].tolist() == [[0.75, 0.25], [0, 1]]
    assert mix.difference[0].tolist() == [-0.5, 0.5]
    assert np.isnan(mix.difference[1:]).all()
    assert np.isnan(mix.error[1:]).all()
    assert mix.left_out == 1


def test_pairs_make_the_error_smaller() -> None:
    old = labels(*([0] * 50 + [1] * 50))
    new = labels(*([0] * 45 + [1] * 55))
    members = np.zeros(100, np.int64), np.zeros(100, np.int64)
    apart = class_mix("all", ["all"], (old, new), members, NO_PAIRS, 2)
    together = class_mix("all", ["all"], (old, new), members, (np.arange(100), np.arange(100)), 2)
    assert together.difference.tolist() == apart.difference.tolist()
    lost, gained, n = 5.5, 0.5, 102  # half a pair more in each cell
    wanted = np.sqrt((lost + gained) - (lost - gained) ** 2 / n) / n
    assert together.error[0] == pytest.approx([wanted, wanted])
    assert (apart.error > 2 * together.error).all()


def test_pairs_count_only_within_a_group() -> None:
    old, new = labels(0, 1, 0, 1), labels(0, 1, 0, 1)
    rows = np.arange(4), np.arange(4)
    same = class_mix("x", ["a", "b"], (old, new), (np.array([0, 0, 1, 1]),) * 2, rows, 2)
    moved = class_mix("x", ["a", "b"], (old, new), (np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0])), rows, 2)
    none = class_mix("x", ["a", "b"], (old, new), (np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0])), NO_PAIRS, 2)
    assert moved.error.tolist() == none.error.tolist()
    assert (same.error < moved.error).all()


def test_the_worst_change_is_significant() -> None:
    """Three of three changed rows are not significant; 300 of 1000 are."""
    old, new = labels(*[0] * 1003), labels(*([1] * 3 + [1] * 300 + [0] * 700))
    members = (np.array([0] * 3 + [1] * 1000),) * 2
    mix = class_mix("x", ["few", "many"], (old, new), members, NO_PAIRS, 2)
    assert mix.difference[0].tolist() == [-1, 1]
    assert mix.worst(3) == (pytest.approx(0.3), "many")
    assert mix.worst(0) == (1, "few")
    assert class_mix("x", [], (old, old), (np.full(1003, -1),) * 2, NO_PAIRS, 2).worst(3) == (0, "")


def test_bins_hold_as_many_old_rows_and_every_new_one() -> None:
    rng = np.random.default_rng(1)
    magnitude = rng.normal(18, 1, 1000)
    magnitude[:40] = np.nan
    other = rng.normal(25, 1, 500)  # all fainter than the old ones
    mix = bin_mix("r", (magnitude, other), 4, (np.zeros(1000, np.int8), np.zeros(500, np.int8)), NO_PAIRS, 2)
    assert mix.old_rows.tolist() == [240] * 4
    assert mix.new_rows.tolist() == [0, 0, 0, 500]
    assert mix.left_out == 40
    assert mix.groups[0].startswith("below 17.")
    assert mix.groups[-1].endswith(" and above")


@pytest.mark.parametrize(("values", "groups"), [(np.full(9, np.nan), []), (np.full(9, 3.0), ["all"])])
def test_columns_with_nothing_to_bin(values: np.ndarray, groups: list[str]) -> None:
    some = np.zeros(9, np.int8)
    assert bin_mix("r", (values, values), 4, (some, some), NO_PAIRS, 2).groups == groups


@pytest.mark.parametrize(("rows", "order"), [(30_000, 2), (3000, 1), (300, 0)])
def test_cells_are_the_smallest_with_enough_rows(rows: int, order: int) -> None:
    pixels = pixels_at(*even_positions(rows, np.random.default_rng(1)))
    pixels[:10] = -1
    some = np.zeros(rows, np.int8)
    mix = sky_mix((pixels, pixels), 40, (some, some), NO_PAIRS, 2)
    assert mix.order == order
    assert (mix.old_rows >= 40).all()
    assert mix.left_out == 2 * rows - mix.old_rows.sum() - mix.new_rows.sum() >= 20
    assert len(mix.groups) == 12 * 4**order or rows == 300


def test_cells_with_few_rows_are_left_out() -> None:
    pixels = pixels_at(*even_positions(100, np.random.default_rng(1)))
    some = np.zeros(100, np.int8)
    mix = sky_mix((pixels, pixels), 200, (some, some), NO_PAIRS, 2)
    assert (mix.groups, mix.left_out, mix.worst(3)) == ([], 200, (0, ""))
