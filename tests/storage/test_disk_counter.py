from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from galaxy_batch.storage.disk_counter import DiskCounter


@pytest.mark.parametrize("expected", [10, 30_000_000, 10**15])
def test_counts_are_those_of_a_counter(expected: int) -> None:
    rng = np.random.default_rng(1)
    pool = rng.integers(0, 2**64, 500, dtype=np.uint64)
    wanted, marks_wanted = Counter(), Counter()
    found, marks_found = {}, {}
    with DiskCounter(expected) as tally:
        for size in (1000, 0, 1, 3000):
            values = rng.choice(pool, size)
            marks = rng.random(size) < 0.3
            tally.add(values, marks)
            wanted.update(values.tolist())
            marks_wanted.update(values[marks].tolist())
        for values, counts, marked in tally.counts():
            found |= dict(zip(values.tolist(), counts.tolist(), strict=True))
            marks_found |= dict(zip(values.tolist(), marked.tolist(), strict=True))
    assert found == dict(wanted)
    assert marks_found == {value: marks_wanted[value] for value in wanted}


def test_a_share_has_its_part_of_the_values_and_no_more() -> None:
    with DiskCounter(40_000_000) as tally:
        assert tally.shares == 11
        tally.add(np.random.default_rng(2).integers(0, 2**64, 110_000, dtype=np.uint64))
        sizes = [len(values) for values, _, _ in tally.counts()]
    assert len(sizes) == 11
    assert max(sizes) < 11_000


def test_nothing_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with DiskCounter(10) as tally:
        tally.add(np.arange(5, dtype=np.uint64))
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_no_values_no_counts() -> None:
    with DiskCounter(0) as tally:
        assert list(tally.counts()) == []
