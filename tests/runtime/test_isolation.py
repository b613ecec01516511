"""Crashing cutouts are isolated, with real processes and real signals."""

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from galaxy_batch.errors import InputError
from galaxy_batch.model.classifier import Classifier
from galaxy_batch.runtime import progress
from galaxy_batch.runtime.attempts import Attempts
from galaxy_batch.runtime.child_process import ChildProcess
from galaxy_batch.runtime.isolation import classify_in_child_process, find_crashing_rows
from galaxy_batch.runtime.model_actor import IsolatingClassifier
from tests.faults.killers import WITH_KILLER, classifier_settings, encoded_chunk
from tests.support.models import SavedModel


class StartedTimes(Attempts):
    """Every chunk was started this often before."""

    def __init__(self, times: int) -> None:
        self.times, self.reported = times, list[int]()

    def begin(self, chunk: int) -> int:
        assert chunk == 5
        return self.times

    def report(self, chunk: int, rows: int) -> None:
        assert chunk == 5
        self.reported.append(rows)


def in_child_process(rows: pa.Table, row_limit_s: float, saved_model: SavedModel, **changed: Any) -> pa.Table:
    with contextlib.closing(ChildProcess({**classifier_settings(saved_model), **changed})) as child:
        return classify_in_child_process(rows, row_limit_s, child)


@pytest.mark.parametrize("seed", range(40))
def test_bisection_finds_exactly_the_crashing_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(1, 1500))
    crashing = set(rng.choice(rows, min(rows, int(rng.integers(1, 9))), replace=False).tolist())
    crashes = 0

    def survives(part: Sequence[int]) -> bool:
        nonlocal crashes
        crashes += bool(crashing & set(part))
        return not crashing & set(part)

    assert find_crashing_rows(survives, rows) == sorted(crashing)
    assert crashes <= len(crashing) * (2 + np.log2(rows))


def test_a_crash_that_does_not_repeat_marks_no_row() -> None:
    assert find_crashing_rows(lambda part: True, 100) == []
    first_crashes = iter([False])
    assert find_crashing_rows(lambda part: next(first_crashes, True), 100) == []


def test_when_every_row_crashes_the_cutouts_are_not_the_cause() -> None:
    with pytest.raises(RuntimeError, match="is not single cutouts"):
        find_crashing_rows(lambda part: False, 1024)


def test_a_chunk_without_crashes_is_classified_as_by_the_classifier(saved_model: SavedModel) -> None:
    rows = encoded_chunk([None] * 3)
    isolating = IsolatingClassifier(StartedTimes(0), 1.0, classifier_settings(saved_model))
    assert isolating(rows).equals(Classifier(**classifier_settings(saved_model))(rows))


def test_classified_rows_are_reported_while_a_chunk_is_classified(
    saved_model: SavedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_REPORT_S", 0.0)
    attempts, settings = StartedTimes(0), {**classifier_settings(saved_model), "batch_size": 2}
    IsolatingClassifier(attempts, 1.0, settings)(encoded_chunk([None] * 5))
    assert attempts.reported == [2, 4, 5]


@pytest.mark.faults
def test_a_crashing_cutout_is_one_row_and_the_others_are_classified(
    saved_model: SavedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", WITH_KILLER)
    rows = encoded_chunk([None, "SIGSEGV"])
    classified = IsolatingClassifier(StartedTimes(2), 1.0, classifier_settings(saved_model))(rows)
    assert classified["status"].to_pylist() == ["ok", "crashed"]
    assert classified["error"].to_pylist() == [None, "the process that read this image was ended by SIGSEGV"]
    assert classified["predicted_class"][1].as_py() is None
    alone = Classifier(**classifier_settings(saved_model))(rows.slice(0, 1))
    assert classified.slice(0, 1).equals(alone)


@pytest.mark.faults
@pytest.mark.timeout(500)
def test_each_cause_of_a_crash_is_reported(saved_model: SavedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", WITH_KILLER)
    classified = in_child_process(encoded_chunk(["SIGABRT", None, None, "hang", "SIGKILL"]), 0.06, saved_model)
    assert classified["status"].to_pylist() == ["crashed", "ok", "ok", "crashed", "crashed"]
    assert classified["error"].to_pylist() == [
        "the process that read this image was ended by SIGABRT",
        None,
        None,
        "the process that read this image was not done after 4 s",
        "the process that read this image was ended by SIGKILL, which the system sends when memory runs out",
    ]


@pytest.mark.faults
def test_a_chunk_unfinished_for_another_reason_is_classified_as_usual(saved_model: SavedModel) -> None:
    rows = encoded_chunk([None] * 5)
    classified = in_child_process(rows, 1.0, saved_model)
    assert classified.equals(Classifier(**classifier_settings(saved_model))(rows))


def test_a_model_that_cannot_be_used_is_not_a_crash(saved_model: SavedModel) -> None:
    with pytest.raises(InputError, match="no-such-model"):
        in_child_process(encoded_chunk([None]), 1.0, saved_model, checkpoint_uri="/no-such-model.safetensors")


def test_an_error_of_the_child_is_not_a_crash(saved_model: SavedModel) -> None:
    with pytest.raises(RuntimeError, match=r"Traceback(?s:.*)does not exist") as caught:
        in_child_process(encoded_chunk([None]).drop_columns(["error"]), 1.0, saved_model)
    assert "not the cause" not in str(caught.value)


@pytest.mark.faults
def test_a_process_that_crashes_on_a_good_cutout_blames_no_cutout(
    saved_model: SavedModel,
) -> None:
    with pytest.raises(RuntimeError, match="also with a cutout that is known to be good"):
        in_child_process(encoded_chunk([None]), 1e-9, saved_model)
