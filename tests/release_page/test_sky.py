from pathlib import Path

import numpy as np

from galaxy_batch.release_page.counts import SKY_ORDER, ReleaseCounts
from galaxy_batch.release_page.sky import sky_maps
from tests.support.release import page_of
from tests.support.skies import publish_rows, sky_rows


def test_the_scatter_of_shares_is_1_where_only_chance_makes_them_differ() -> None:
    rng, counts = np.random.default_rng(2), ReleaseCounts(("smooth", "featured"), 0, 0)
    cells = rng.integers(0, 12 * 4**SKY_ORDER, 60_000)
    np.add.at(counts.sky, cells, 1)
    counts.sky_classified[:] = counts.sky
    counts.rows = len(cells)
    for slope, low, high in ((0.0, 0.9, 1.1), (0.4, 1.5, 9.0)):
        share = 0.5 + slope * (cells / cells.max() - 0.5)
        counts.sky_of_class[:] = 0
        np.add.at(counts.sky_of_class, cells[rng.random(len(cells)) < share], 1)
        maps = sky_maps(counts)
        assert maps is not None
        assert low < maps["share"]["scatter"] < high
        assert 1 < maps["share"]["scatter_limit"] < 1.2


def test_the_scale_of_shares_ends_at_100_percent() -> None:
    counts = ReleaseCounts(("smooth", "featured"), 0, 0)
    counts.sky[:40] = counts.sky_classified[:40] = counts.sky_of_class[:40] = counts.rows = 30
    maps = sky_maps(counts)
    assert maps is not None
    assert ">100%<" in maps["share"]["drawing"]
    assert ">102%<" not in maps["share"]["drawing"]


def test_rows_at_one_pole_are_a_patch(tmp_path: Path) -> None:
    rows = sky_rows(40, positions=(np.full(40, 10.0), np.full(40, 90.0)))
    _, shown = page_of(publish_rows(tmp_path, rows))
    assert "Lambert" in shown.text
    assert "too few cells to tell" in shown.text
    assert len(shown.figures) == 4
