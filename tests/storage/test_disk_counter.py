from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from galaxy_batch.storage.disk_counter import DiskCounter


@pytest.mark.parametrize("expected", [10, 30_000_000, 10**15])
def test_counts_equal_those_of_a_python_counter(expected: int) -> None:
    rng = np.random.default_rng(1)
    pool = rng.integers(0, 2**64, 500, dtype=np.uint64)
    wanted, marks_wanted = Counter(), Counter()
    counted, marks_counted = {}, {}
    with DiskCounter(expected) as counter:
        for size in (1000, 0, 1, 3000):
            values = rng.choice(pool, size)
            marks = rng.random(size) < 0.3
            counter.add(values, marks)
            wanted.update(values.tolist())
            marks_wanted.update(values[marks].tolist())
        for values, counts, marked in counter.counts():
            counted |= dict(zip(values.tolist(), counts.tolist(), strict=True))
            marks_counted |= dict(zip(values.tolist(), marked.tolist(), strict=True))
    assert counted == dict(wanted)
    assert marks_counted == {value: marks_wanted[value] for value in wanted}


def test_values_are_evenly_distributed_over_buckets() -> None:
    with DiskCounter(40_000_000) as counter:
        assert counter.buckets == 11
        counter.add(np.random.default_rng(2).integers(0, 2**64, 110_000, dtype=np.uint64))
        sizes = [len(values) for values, _, _ in counter.counts()]
    assert len(sizes) == 11
    assert max(sizes) < 11_000


def test_the_temporary_folder_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with DiskCounter(10) as counter:
        counter.add(np.arange(5, dtype=np.uint64))
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_without_values_there_are_no_counts() -> None:
    with DiskCounter(0) as counter:
        assert list(counter.counts()) == []
