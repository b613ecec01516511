import dataclasses

import numpy as np
import pytest

from tests.support.training import part_of, run_of
from train.evaluate.evaluation import evaluate
from train.evaluate.results import TrainingRun
from train.evaluate.training_warnings import training_warnings
from train.fit.fit import Epoch

HEAD = Epoch("head", 5, 0.3, 0.85, 0.39, 0.8, 1.0)


def sound_run(**changes: object) -> TrainingRun:
    """A run with 120 calibration and 120 test galaxies, 95% accuracy and a fitting temperature."""
    run = run_of(galaxies=120, wrong=6)
    test = run.parts["test"]
    run = dataclasses.replace(
        run,
        parts={**run.parts, "calibration": part_of(120, 2, 6, seed=3)},
        evaluation=evaluate(test.logits, test.labels, 1.0, 0.95),
    )
    return dataclasses.replace(run, **changes)


def test_a_sound_run_has_no_warning() -> None:
    assert training_warnings(sound_run()) == []
    assert training_warnings(sound_run(epochs=())) == []


@pytest.mark.parametrize(("accuracy", "warned"), [(0.55, True), (0.72, True), (0.79, False), (float("nan"), False)])
def test_a_second_phase_that_ends_worse_than_the_first(accuracy: float, warned: bool) -> None:
    blocks = Epoch("blocks", 2, 0.4, 0.84, 0.83, accuracy, 6.0)
    warnings = training_warnings(sound_run(epochs=(HEAD, blocks)))
    assert [warning.startswith("Phase 2 made the model worse") for warning in warnings] == [True] * warned
    if warned:
        assert f"from 80.0% to {accuracy:.1%}, loss rose from 0.39 to 0.83" in warnings[0]


def test_a_model_near_the_majority_class() -> None:
    labels = np.array([0] * 70 + [1] * 50)
    logits = np.tile([2.0, 0.0], (120, 1))
    (near,) = [w for w in training_warnings(sound_run(evaluation=evaluate(logits, labels, 2.0, 0.95))) if "always" in w]
    assert "58.3% on 120 test galaxies is not significantly above the 58.3% of always predicting “smooth”" in near


def test_confidence_that_is_no_probability() -> None:
    run = sound_run()
    test = run.parts["test"]
    checkpoint = dataclasses.replace(run.checkpoint, temperature=9.0)
    run = dataclasses.replace(run, checkpoint=checkpoint, evaluation=evaluate(test.logits, test.labels, 9.0, 0.95))
    warnings = training_warnings(run)
    assert any(w.startswith("Confidence is not a probability here: its calibration error is 0.") for w in warnings)


def test_few_galaxies() -> None:
    warnings = training_warnings(run_of())
    assert "Only 16 calibration galaxies set the temperature and the review limits." in warnings
    assert "Only 24 test galaxies: use the intervals, not the values." in warnings
