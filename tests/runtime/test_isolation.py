"""Cutouts that kill: found by bisection, with real processes and real signals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from galaxy_batch.config import ClassifyConfig
from galaxy_batch.model.classifier import Classifier
from galaxy_batch.runtime.isolation import IsolatingClassifier, classify_apart, find_crashing_rows
from galaxy_batch.synthetic.rendering import render
from tests.conftest import SavedModel
from tests.faults.killers import WITH_KILLER, killer_cutout


def model(saved: SavedModel) -> dict[str, Any]:
    return {
        "checkpoint_uri": saved.uri, "config": ClassifyConfig(), "batch_size": 4, "engine": "torch",
        "precision": "fp32", "threads": 1,
    }  # fmt: skip


def chunk(ways: Sequence[str | None]) -> pa.Table:
    """Rows as `fetch_cutouts` leaves them: a good galaxy where there is no way to kill."""
    images = [render(number, seed=1) if way is None else killer_cutout(way, render(number, seed=1))
              for number, way in enumerate(ways)]  # fmt: skip
    count = len(ways)
    return pa.table({
        "object_id": range(count), "_chunk": pa.array([5] * count, pa.int32()), "status": ["ok"] * count,
        "error": pa.nulls(count, pa.string()), "_image_bytes": pa.array(images, pa.large_binary()),
    })  # fmt: skip


class Begun:
    def __init__(self, times: int) -> None:
        self.times = times

    def begin(self, chunk: int) -> int:
        assert chunk == 5
        return self.times


@pytest.mark.parametrize("seed", range(40))
def test_bisection_finds_exactly_the_rows_that_kill(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(1, 1500))
    guilty = set(rng.choice(rows, min(rows, int(rng.integers(1, 9))), replace=False).tolist())
    deaths = 0

    def survives(part: Sequence[int]) -> bool:
        nonlocal deaths
        deaths += bool(guilty & set(part))
        return not guilty & set(part)

    assert find_crashing_rows(survives, rows) == sorted(guilty)
    assert deaths <= len(guilty) * (2 + np.log2(rows))


def test_a_death_that_does_not_repeat_has_no_culprit() -> None:
    assert find_crashing_rows(lambda part: True, 100) == []
    died = iter([False])  # once, with whatever is tried first
    assert find_crashing_rows(lambda part: next(died, True), 100) == []


def test_when_everything_kills_it_is_not_the_cutouts() -> None:
    with pytest.raises(RuntimeError, match="not single cutouts"):
        find_crashing_rows(lambda part: False, 1024)


def test_an_undisturbed_chunk_is_classified_as_ever(saved_model: SavedModel) -> None:
    rows = chunk([None] * 3)
    careful = IsolatingClassifier(Begun(0), 1.0, model(saved_model))
    assert careful(rows).equals(Classifier(**model(saved_model))(rows))


@pytest.mark.faults
def test_a_cutout_that_kills_is_one_row_and_the_others_are_as_ever(
    saved_model: SavedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", WITH_KILLER)
    rows = chunk([None, "SIGSEGV"])
    found = IsolatingClassifier(Begun(2), 1.0, model(saved_model))(rows)
    assert found["status"].to_pylist() == ["ok", "crashed"]
    assert found["error"].to_pylist() == [None, "the process that read this image was ended by SIGSEGV"]
    assert found["predicted_class"][1].as_py() is None
    alone = Classifier(**model(saved_model))(rows.slice(0, 1))
    assert found.slice(0, 1).equals(alone)


@pytest.mark.faults
@pytest.mark.timeout(500)
def test_every_way_to_die_is_named(saved_model: SavedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", WITH_KILLER)
    found = classify_apart(chunk(["SIGABRT", None, None, "hang", "SIGKILL"]), 0.06, model(saved_model))
    assert found["status"].to_pylist() == ["crashed", "ok", "ok", "crashed", "crashed"]
    assert found["error"].to_pylist() == [
        "the process that read this image was ended by SIGABRT",
        None,
        None,
        "the process that read this image was not done after 4 s",
        "the process that read this image was ended by SIGKILL, which is what the system sends when memory is short",
    ]


@pytest.mark.faults
def test_a_chunk_whose_worker_was_lost_for_another_reason_is_just_classified(saved_model: SavedModel) -> None:
    rows = chunk([None] * 5)
    assert classify_apart(rows, 1.0, model(saved_model)).equals(Classifier(**model(saved_model))(rows))


def test_what_the_child_raises_is_not_taken_for_a_death(saved_model: SavedModel) -> None:
    with pytest.raises(RuntimeError, match="no-such-model") as caught:
        classify_apart(chunk([None]), 1.0, {**model(saved_model), "checkpoint_uri": "/no-such-model.safetensors"})
    assert "not the cutouts" not in str(caught.value)


@pytest.mark.faults
def test_a_process_that_dies_of_a_good_cutout_too_is_not_the_cutouts_fault(
    saved_model: SavedModel,
) -> None:
    with pytest.raises(RuntimeError, match="so it does with a cutout that is known to be good"):
        classify_apart(chunk([None]), 1e-9, model(saved_model))
