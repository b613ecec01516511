"""The report of a training run: a page, its figures as PNG files, and metrics.json."""

import dataclasses
import json
import logging
from typing import Any

import numpy as np

from galaxy_batch.report.page import Tile, count, interval, number, percent, render
from galaxy_batch.report.pictures import cutout_tile
from galaxy_batch.storage.files import join, without_secrets, write_atomically
from train.data.labels import question_of
from train.evaluate.grad_cam import sample_grad_cam
from train.evaluate.grad_cam_metrics import grad_cam_metrics
from train.evaluate.metrics import HeldOutMetrics, held_out_metrics, metrics_json, part_counts
from train.evaluate.results import TrainingRun
from train.evaluate.training_warnings import training_warnings
from train.fit.fit import Epoch
from train.report.figures import ReportFigures, learning_curves, vote_histograms
from train.report.grad_cam_section import grad_cam_values
from train.report.held_out import accuracy_values, calibration_values, error_values
from train.report.question_section import question_values
from train.report.review_section import review_values

__all__ = ["write_report"]

logger = logging.getLogger(__name__)

_MAX_SAMPLES = 12  # cutouts of each class


def write_report(run: TrainingRun, report_uri: str, grad_cam_limit: int = 400) -> str:
    """Write the report of a finished training run; the URI of its page.

    Args:
        run: with test galaxies that have logits; its model is set to eval mode.
        report_uri: folder for `index.html`, `metrics.json` and the figures as PNG.
        grad_cam_limit: largest number of Grad-CAM maps; wrong predictions come first.
    """
    held_out, figures, test = held_out_metrics(run), ReportFigures(), run.parts["test"]
    sample = sample_grad_cam(run.model, test.pixels, held_out.predicted, held_out.correct, grad_cam_limit)
    on_galaxy = grad_cam_metrics(sample, held_out.predicted, held_out.correct, run.labels.classes)
    html = render(
        "train.report",
        "training.html",
        title="Galaxy morphology: training report",
        about=[
            ("checkpoint", run.checkpoint.checkpoint_id or "not saved"),
            ("network", run.checkpoint.spec.architecture),
            ("classes", ", ".join(run.labels.classes)),
        ],
        run=run,
        held_out=held_out,
        warnings=training_warnings(run),
        headline=_headline(run, held_out),
        **_data_values(run, figures),
        **_training_values(run, figures),
        **accuracy_values(run, held_out, figures),
        **calibration_values(run, held_out, figures),
        **review_values(held_out, figures),
        **question_values(run.question_scores),
        **grad_cam_values(run, held_out, sample, on_galaxy, figures),
        **error_values(run, held_out),
        **_provenance(run),
    )
    for name, png in figures.png_files.items():
        write_atomically(join(report_uri, name), png)
    content = json.dumps(metrics_json(run, held_out, on_galaxy), indent=2, allow_nan=False) + "\n"
    write_atomically(join(report_uri, "metrics.json"), content.encode())
    index_uri = join(report_uri, "index.html")
    write_atomically(index_uri, html.encode())
    logger.info("report: %s", without_secrets(index_uri))
    return index_uri


def _headline(run: TrainingRun, held_out: HeldOutMetrics) -> list[tuple[str, str, str]]:
    evaluation, review = run.evaluation, held_out.review
    return [
        (
            "Accuracy",
            percent(evaluation.accuracy),
            f"95% interval {interval(evaluation.accuracy_interval, as_percent=True)}; "
            f"always “{run.labels.classes[evaluation.majority_class]}”: {percent(evaluation.majority_accuracy)}",
        ),
        (
            "Expected calibration error",
            number(evaluation.ece),
            f"95% interval {interval(held_out.ece_interval)}; {number(held_out.ece_by_chance)} by chance alone",
        ),
        ("Test galaxies", count(evaluation.galaxies), "with a label, used for neither training nor calibration"),
        (
            "Calibration galaxies",
            count(len(run.parts["calibration"].labels)),
            "set the temperature and the review limits",
        ),
        ("Sent to review", percent(review.reviewed_share), f"confidence below {review.threshold:.3f}"),
        (
            "Accuracy of the rest",
            percent(review.accuracy),
            f"{count(review.kept)} galaxies; 95% interval {interval(review.interval, as_percent=True)}"
            if review.kept
            else "every galaxy is reviewed",
        ),
    ]


def _data_values(run: TrainingRun, figures: ReportFigures) -> dict[str, Any]:
    labels, question = run.labels, question_of(run.config.labels)
    counts, total = labels.counts(), len(labels.label)
    rows = [*counts.items(), *((f"cutout {status}", n) for status, n in run.unusable.items())]
    votes = {name: labels.votes[:, number] for number, name in enumerate(labels.classes)}
    others = np.clip(1 - labels.votes.sum(axis=1), 0, 1) if question.others and question.sums_to_one else None
    parts = {name: part_counts(part, labels.classes) for name, part in run.parts.items()}
    kinds = list(dict.fromkeys(kind for part in parts.values() for kind in part))
    return {
        "total": total,
        "unusable": sum(run.unusable.values()),
        "ambiguous": counts["ambiguous"] / max(total, 1),
        "label_rows": [[name, count(n), percent(n / max(total, 1))] for name, n in rows],
        "split_header": ["part", *kinds, "all"],
        "split_rows": [
            [name, *(count(part.get(kind, 0)) for kind in kinds), count(sum(part.values()))]
            for name, part in parts.items()
        ],
        "vote_histograms": figures.embed(
            "vote_histograms",
            lambda width_px: vote_histograms(width_px, votes, run.config.labels.threshold, others),
            "Histograms of the vote fractions by answer.",
        ),
        "sample_tiles": _sample_tiles(run),
    }


def _sample_tiles(run: TrainingRun) -> dict[str, list[Tile]]:
    """Random cutouts of each class, with votes and id."""
    generator, tiles = np.random.default_rng(0), {}
    for number_of_class, name in enumerate(run.labels.classes):
        members = [(part, row) for part in run.parts.values() for row in np.flatnonzero(part.labels == number_of_class)]
        chosen = generator.permutation(len(members))[:_MAX_SAMPLES]
        tiles[name] = [
            cutout_tile(
                part.pixels[row].numpy(), (" / ".join(f"{vote:.2f}" for vote in part.votes[row]),), part.ids[row]
            )
            for part, row in (members[position] for position in sorted(chosen.tolist()))
        ]
    return tiles


def _training_values(run: TrainingRun, figures: ReportFigures) -> dict[str, Any]:
    phases: dict[str, list[Epoch]] = {}
    for epoch in run.epochs:
        phases.setdefault(epoch.phase, []).append(epoch)
    return {
        "phase_rows": [
            [
                phase,
                str(len(epochs)),
                number(epochs[-1].loss),
                number(epochs[-1].calibration_loss),
                percent(epochs[-1].accuracy),
                percent(epochs[-1].calibration_accuracy),
                f"{np.median([e.seconds for e in epochs]):.1f}",
                f"{sum(e.seconds for e in epochs):.0f}",
            ]
            for phase, epochs in phases.items()
        ],
        "learning_curves": figures.embed(
            "learning_curves",
            lambda width_px: learning_curves(width_px, run.epochs),
            "Loss and accuracy by epoch, on training and calibration galaxies.",
        )
        if run.epochs
        else None,
    }


def _provenance(run: TrainingRun) -> dict[str, Any]:
    config, spec = dataclasses.asdict(run.config), dataclasses.asdict(run.checkpoint.spec)
    return {
        "checkpoint_settings": {
            "checkpoint": run.checkpoint.checkpoint_id or "not saved",
            "temperature": run.checkpoint.temperature,
            "min_confidence": run.checkpoint.min_confidence,
            "max_unfamiliarity": run.checkpoint.max_unfamiliarity,
            "max_instability": run.checkpoint.max_instability,
            **spec,
            "questions": [question["name"] for question in spec["questions"]],
        },
        "provenance": {name: value for name, value in run.checkpoint.training.items() if name not in config},
        "config": config,
    }
