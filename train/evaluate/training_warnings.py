"""Warnings about a finished training run whose model should not be used without a closer look."""

from collections.abc import Sequence

from train.evaluate.calibration import calibration_error_by_chance, calibration_verdict, class_probabilities
from train.evaluate.evaluation import Evaluation
from train.evaluate.results import TrainingRun
from train.fit.fit import Epoch

__all__ = ["training_warnings"]

_MIN_GALAXIES = 100  # of calibration and test; the limit of UNFAMILIAR is their 99 % quantile


def training_warnings(run: TrainingRun) -> list[str]:
    """Warnings on the fit, the accuracy, the calibration and the number of galaxies; empty for a sound run."""
    calibration = len(run.parts["calibration"].labels)
    warnings = [
        _phase_warning(run.epochs, calibration),
        _majority_warning(run.evaluation, run.labels.classes),
        _calibration_warning(run),
    ]
    if calibration < _MIN_GALAXIES:
        warnings.append(f"Only {calibration} calibration galaxies set the temperature and the review limits.")
    if run.evaluation.galaxies < _MIN_GALAXIES:
        warnings.append(f"Only {run.evaluation.galaxies} test galaxies: use the intervals, not the values.")
    return [warning for warning in warnings if warning]


def _phase_warning(epochs: Sequence[Epoch], galaxies: int) -> str:
    """Whether phase 2 lowered the accuracy on the calibration galaxies by more than one standard error."""
    last = {epoch.phase: epoch for epoch in epochs}
    if "head" not in last or "blocks" not in last or not galaxies:
        return ""
    before, after = last["head"], last["blocks"]
    share = (before.calibration_accuracy * galaxies + 1) / (galaxies + 2)  # one added to both, so never 0 or 1
    error = (share * (1 - share) / (galaxies + 2)) ** 0.5
    if not after.calibration_accuracy < before.calibration_accuracy - error:
        return ""
    return (
        f"Phase 2 made the model worse: accuracy on the {galaxies} calibration galaxies fell from "
        f"{before.calibration_accuracy:.1%} to {after.calibration_accuracy:.1%}, loss rose from "
        f"{before.calibration_loss:.2f} to {after.calibration_loss:.2f}. Lower fit.blocks.learning_rate, train longer, "
        "or use more galaxies."
    )


def _majority_warning(evaluation: Evaluation, classes: tuple[str, ...]) -> str:
    if evaluation.accuracy_interval[0] > evaluation.majority_accuracy:
        return ""
    return (
        f"The accuracy of {evaluation.accuracy:.1%} on {evaluation.galaxies} test galaxies is not significantly above "
        f"the {evaluation.majority_accuracy:.1%} of always predicting “{classes[evaluation.majority_class]}”."
    )


def _calibration_warning(run: TrainingRun) -> str:
    confidence = class_probabilities(run.parts["test"].logits, run.checkpoint.temperature).max(axis=1)
    ece = run.evaluation.ece
    if calibration_verdict(ece, calibration_error_by_chance(confidence)) != "miscalibrated":
        return ""
    return f"Confidence is not a probability here: its calibration error is {ece:.3f}."
