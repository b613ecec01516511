"""Sweep over vote thresholds: a stricter threshold gives cleaner labels and fewer galaxies."""

import dataclasses
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from galaxy_batch.errors import InputError
from galaxy_batch.model.saved_model import load_checkpoint
from galaxy_batch.report.figures import embed
from galaxy_batch.report.page import interval, number, percent, render
from galaxy_batch.storage.files import join, without_secrets, write_atomically
from train.config import SweepConfig, TrainConfig
from train.data.galaxies import load_part, read_galaxies
from train.data.splits import split_galaxies
from train.evaluate.evaluation import Evaluation, evaluate
from train.fit.fit import predict_logits
from train.report.figures import threshold_curves
from train.run import train_model

__all__ = ["ThresholdResult", "recommend", "sweep_threshold"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ThresholdResult:
    """One training run of the sweep."""

    threshold: float
    kept: int
    """Number of galaxies of the table with a label."""
    kept_fraction: float
    class_fractions: dict[str, float]
    """Share of each class among the labelled galaxies."""
    own: Evaluation
    """On the test galaxies that have a label at this threshold."""
    common: Evaluation
    """On the common test set: test galaxies that have a label at `clean_threshold`."""
    checkpoint_uri: str


@dataclass(frozen=True)
class _TestGalaxies:
    """Test galaxies of all runs."""

    pixels: torch.Tensor
    labels: npt.NDArray[np.int64]
    agreement: npt.NDArray[np.float64]
    """``(N,)``: share of the votes for the label."""


def sweep_threshold(config: SweepConfig) -> dict[str, Any]:
    """Train at each threshold, compare on a common test set, recommend a threshold; returns the job's summary.

    The split depends on the ids alone, so test galaxies of one run are training galaxies of none.

    Raises:
        InputError: as `train_model`.
    """
    started = time.monotonic()
    test = _test_galaxies(config)
    results = [_train_at(config, threshold, test) for threshold in sorted(set(config.thresholds))]
    best, reason = recommend(results)
    rows = [dataclasses.asdict(result) for result in results]
    metrics = {"thresholds": rows, "recommended_threshold": best.threshold, "reason": reason}
    write_atomically(join(config.output_uri, "sweep.json"), (json.dumps(metrics, indent=2) + "\n").encode())
    report_uri = join(config.output_uri, "index.html")
    write_atomically(report_uri, _page(config, results, best, reason).encode())
    return {
        "report_uri": without_secrets(report_uri),
        "recommended_threshold": best.threshold,
        "reason": reason,
        "accuracy": {f"{r.threshold:g}": r.common.accuracy for r in results},
        "seconds": round(time.monotonic() - started, 3),
    }


def recommend(results: Sequence[ThresholdResult]) -> tuple[ThresholdResult, str]:
    """The recommended threshold and the reason.

    Of the thresholds within one standard error of the highest accuracy on the common test set, the one with most
    labelled galaxies: on a few hundred test galaxies, smaller differences are chance.
    """
    leader = max(results, key=lambda r: r.common.accuracy)
    share, count = leader.common.accuracy, leader.common.galaxies
    error = float(np.sqrt(share * (1 - share) / count))
    candidates = [r for r in results if r.common.accuracy >= share - error]
    best = max(candidates, key=lambda r: (r.kept, r.common.accuracy))
    reason = (
        f"At {leader.threshold:g} the accuracy on the {count} common test galaxies is highest, {share:.1%} "
        f"(standard error {error:.1%}). "
    )
    if best is leader:
        reason += "No threshold that labels more galaxies is within that error."
    else:
        reason += (
            f"{best.threshold:g} reaches {best.common.accuracy:.1%}, within that error, and labels "
            f"{best.kept:,} galaxies instead of {leader.kept:,}: a larger training set, with harder galaxies."
        )
    return best, reason


def _train_at(config: SweepConfig, threshold: float, test: _TestGalaxies) -> ThresholdResult:
    logger.info("threshold %g", threshold)
    own = {f.name: getattr(config, f.name) for f in dataclasses.fields(TrainConfig)}
    labels_config = dataclasses.replace(config.labels, threshold=threshold)
    folder = join(config.output_uri, f"threshold-{threshold:g}")
    summary = train_model(TrainConfig(**{**own, "labels": labels_config, "output_uri": folder}))
    counts = {name: count for name, count in summary["galaxies"].items() if name != "ambiguous"}
    kept = sum(counts.values())
    checkpoint, model = load_checkpoint(join(folder, "model.safetensors"))
    logits = predict_logits(model, test.pixels, torch.device("cpu")).double().numpy()

    def evaluate_at(agreement: float) -> Evaluation:
        rows = test.agreement >= agreement
        return evaluate(logits[rows], test.labels[rows], checkpoint.temperature, config.review_accuracy)

    return ThresholdResult(
        threshold=threshold,
        kept=kept,
        kept_fraction=kept / sum(summary["galaxies"].values()),
        class_fractions={name: count / kept for name, count in counts.items()},
        own=evaluate_at(threshold),
        common=evaluate_at(config.clean_threshold),
        checkpoint_uri=without_secrets(join(folder, "model.safetensors")),
    )


def _test_galaxies(config: SweepConfig) -> _TestGalaxies:
    """Test galaxies that have a label at the lowest threshold, which include those of the higher ones."""
    lowest = min(*config.thresholds, config.clean_threshold)
    config = dataclasses.replace(config, labels=dataclasses.replace(config.labels, threshold=lowest))
    galaxies, labels = read_galaxies(config)
    part = load_part(config, galaxies, labels, split_galaxies(galaxies["object_id"], config.split).test, learns=False)
    agreement = labels.votes[part.rows].max(axis=1)
    if not (agreement >= config.clean_threshold).any():
        raise InputError(
            "clean_threshold", config.clean_threshold, "no test galaxy has a label at this threshold; lower it"
        )
    return _TestGalaxies(part.examples.pixels, labels.label[part.rows], agreement)


def _page(config: SweepConfig, results: Sequence[ThresholdResult], best: ThresholdResult, reason: str) -> str:
    classes = list(results[0].class_fractions)
    kept = [r.kept_fraction for r in results]
    accuracy = {"own labels": [r.own.accuracy for r in results], "common": [r.common.accuracy for r in results]}
    return render(
        "train.report",
        "thresholds.html",
        title="Vote thresholds",
        about=[("network", config.network.architecture)],
        headline=[("Recommended threshold", f"{best.threshold:g}", f"{best.kept:,} galaxies have a label")],
        reason=reason,
        clean_threshold=config.clean_threshold,
        curves=embed(
            lambda width_px: threshold_curves(width_px, [r.threshold for r in results], kept, accuracy),
            "Share of labelled galaxies and accuracy by vote threshold.",
        ),
        header=["threshold", "labelled", *classes, "accuracy, own labels", "accuracy, common", "95% interval", "ECE"],
        rows=[
            [
                f"{r.threshold:g}",
                f"{r.kept:,} ({percent(r.kept_fraction)})",
                *(percent(r.class_fractions[name]) for name in classes),
                f"{percent(r.own.accuracy)} of {r.own.galaxies}",
                f"{percent(r.common.accuracy)} of {r.common.galaxies}",
                interval(r.common.accuracy_interval, as_percent=True),
                number(r.common.ece),
            ]
            for r in results
        ],
    )
