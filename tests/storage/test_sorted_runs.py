import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galaxy_batch.storage.sorted_runs import consecutive_groups, read_all_between, read_between, write_run


def run_of(keys: list[int], folder: Path) -> tuple[str, pa.Table]:
    rows = pa.table({"key": pa.array(keys, pa.int64()), "text": [f"row {n}" for n in range(len(keys))]})
    write_run(rows, "key", str(folder / "run.arrow"))
    return str(folder / "run.arrow"), rows


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 5000), spread=st.sampled_from([1, 3, 50, 2**62]))
def test_a_range_of_keys_equals_a_search_of_all_rows(
    seed: int, count: int, spread: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    keys = np.sort(rng.integers(-spread, spread, count, endpoint=True))
    uri, rows = run_of(keys.tolist(), tmp_path_factory.mktemp("run"))
    for _ in range(5):
        low, last = np.sort(rng.integers(-spread, spread, 2, endpoint=True)).tolist()
        between = read_between(uri, "key", low, last)
        assert between.equals(rows.filter(pa.array((keys >= low) & (keys <= last))))


def test_extreme_keys_are_read(tmp_path: Path) -> None:
    uri, rows = run_of([-(2**63), 0, 2**63 - 1], tmp_path)
    assert read_between(uri, "key", -(2**63), 2**63 - 1).equals(rows)
    assert read_between(uri, "key", 2**63 - 1, 2**63 - 1)["text"].to_pylist() == ["row 2"]


def test_several_runs_are_read_in_their_order(tmp_path: Path) -> None:
    uris = []
    for number, keys in enumerate(([1, 3, 5], [2, 3, 9], [7])):
        (tmp_path / str(number)).mkdir()
        uris.append(run_of(keys, tmp_path / str(number))[0])
    assert read_all_between(uris, "key", 2, 5)["key"].to_pylist() == [3, 5, 2, 3]


def test_a_reader_fetches_little_more_than_its_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, _ = run_of(list(range(200_000)), tmp_path)
    fetched: list[int] = []
    get_batch = pa.RecordBatchFileReader.get_batch

    def counting(reader: pa.RecordBatchFileReader, number: int) -> pa.RecordBatch:
        batch = get_batch(reader, number)
        fetched.append(len(batch))
        return batch

    class Counting(pa.RecordBatchFileReader):
        get_batch = counting

    monkeypatch.setattr(pa.ipc, "open_file", Counting)
    assert len(read_between(uri, "key", 70_000, 75_000)) == 5001
    assert 5001 <= sum(fetched) <= 5001 + 2 * 1024


def test_runs_can_be_at_any_uri() -> None:
    rows = pa.table({"key": pa.array([1, 2, 3])})
    write_run(rows, "key", "memory://exchange/run.arrow")
    assert read_between("memory://exchange/run.arrow", "key", 2, 9)["key"].to_pylist() == [2, 3]


def test_writing_a_run_again_gives_the_same_file(tmp_path: Path) -> None:
    uri, rows = run_of(list(range(5000)), tmp_path)
    first = Path(uri).read_bytes()
    write_run(rows, "key", uri)
    assert Path(uri).read_bytes() == first
    assert os.listdir(tmp_path) == ["run.arrow"]


@given(sizes=st.lists(st.integers(1, 20), max_size=50), most=st.integers(1, 40))
def test_groups_are_consecutive_and_as_large_as_allowed(sizes: list[int], most: int) -> None:
    groups = consecutive_groups(sizes, most)
    assert [position for group in groups for position in group] == list(range(len(sizes)))
    for group in groups:
        assert sum(sizes[position] for position in group) <= most or len(group) == 1
    for one, other in pairwise(groups):  # no two could have been one
        assert sum(sizes[position] for position in one) + sizes[other.start] > most
