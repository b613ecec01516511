"""The report of a training run: one page for people, `metrics.json` for machines, the figures beside it."""

import dataclasses
import json
import logging
import math

import numpy as np

from galaxy_batch.report.html import (
    Album,
    cards,
    note,
    number,
    page,
    paragraph,
    percent,
    range_of,
    section,
    settings,
    side_by_side,
    table,
)
from galaxy_batch.storage.files import join, without_secrets, write_atomically
from train.data.labels import question_of
from train.evaluate.grad_cam import sample_grad_cam
from train.evaluate.grad_cam_metrics import grad_cam_metrics
from train.evaluate.metrics import HeldOutMetrics, held_out_metrics, metrics_json, part_counts
from train.evaluate.results import TrainingRun
from train.fit.fit import Epoch
from train.report.grad_cam_section import grad_cam_section
from train.report.held_out import confidence_section, mistakes_section, predictions_section
from train.report.plots import learning_curves, vote_histograms
from train.report.review_section import review_section
from train.report.sheets import Picture, contact_sheet

__all__ = ["write_report"]

logger = logging.getLogger(__name__)

_SAMPLES = 16  # cutouts of each class
_FEW = 100  # test galaxies, below which the page warns


def write_report(run: TrainingRun, report_uri: str, attention_limit: int = 400) -> str:
    """Write the report of a finished training run, and give the URI of its page.

    Args:
        run: the run; its `test` part must have galaxies with logits, and its model is put in eval mode.
        report_uri: folder that gets `index.html`, `metrics.json` and the figures as PNG.
        attention_limit: test galaxies whose attention is looked at, wrong predictions first.
    """
    held_out, album = held_out_metrics(run), Album()
    test, classes = run.parts["test"], run.labels.classes
    attention = sample_grad_cam(run.model, test.pixels, held_out.predicted, held_out.correct, attention_limit)
    seen = grad_cam_metrics(attention, held_out.predicted, held_out.correct, classes)
    sections = {
        "The data": _data(run, album),
        "The fit": _fit(run, album),
        "Held-out galaxies": predictions_section(run, held_out, album),
        "Confidence means probability": confidence_section(run, held_out, album),
        "When not to believe it": review_section(held_out.caught, held_out.flagged),
        "What it looked at": grad_cam_section(run, held_out, attention, seen, album),
        "Worst mistakes": mistakes_section(run, held_out, album),
        "How it was made": _making(run),
    }
    about = [
        ("checkpoint", run.checkpoint.checkpoint_id or "not saved"),
        ("network", run.checkpoint.spec.architecture),
        ("classes", ", ".join(classes)),
    ]
    html = page("Galaxy morphology: training report", about, _headline(run, held_out), sections)
    for name, png in album.files.items():
        write_atomically(join(report_uri, name), png)
    content = json.dumps(metrics_json(run, held_out, seen), indent=2, allow_nan=False) + "\n"
    write_atomically(join(report_uri, "metrics.json"), content.encode())
    index_uri = join(report_uri, "index.html")
    write_atomically(index_uri, html.encode())
    logger.info("report: %s", without_secrets(index_uri))
    return index_uri


def _headline(run: TrainingRun, held_out: HeldOutMetrics) -> str:
    evaluation, review = run.evaluation, held_out.review
    ambiguous = run.labels.counts()["ambiguous"] / max(len(run.labels.label), 1)
    items = [
        (
            "Accuracy",
            percent(evaluation.accuracy),
            f"95% interval {range_of(held_out.accuracy_interval, as_percent=True)}",
        ),
        (
            "Expected calibration error",
            number(evaluation.ece),
            f"95% interval {range_of(held_out.ece_interval)}; {number(held_out.ece_by_chance)} by chance alone",
        ),
        ("Brier score", number(evaluation.brier), "0 at best"),
        ("Galaxies held out", f"{evaluation.galaxies:,}", "with a clear label; neither trained nor calibrated on"),
        ("Sent to review", percent(review.reviewed_share), f"confidence under {review.threshold:.3f}"),
        (
            "Accuracy of the rest",
            percent(review.accuracy),
            f"{review.kept:,} galaxies; 95% interval {range_of(review.interval, as_percent=True)}"
            if review.kept
            else "nothing is left",
        ),
    ]
    few = (
        note(f"Only {evaluation.galaxies} galaxies were held out: read the intervals, not the numbers.")
        if evaluation.galaxies < _FEW
        else ""
    )
    remark = (
        f"All of this holds for galaxies on which the volunteers agree; {percent(ambiguous)} of the table are "
        "ambiguous and were not tested, so a whole survey will be harder."
        if ambiguous
        else ""
    )
    return cards(items) + few + (paragraph(remark) if remark else "")


def _data(run: TrainingRun, album: Album) -> str:
    labels, rule = run.labels, run.config.labels
    total, counts = len(labels.label), labels.counts()
    rows = [[name, f"{count:,}", percent(count / total if total else math.nan)] for name, count in counts.items()]
    rows += [
        [f"cutout {status}", f"{count:,}", percent(count / max(total, 1))] for status, count in run.unusable.items()
    ]
    votes = {name: labels.votes[:, place] for place, name in enumerate(labels.classes)}
    question = question_of(rule)
    others = np.clip(1 - labels.votes.sum(axis=1), 0, 1) if question.others and question.sums_to_one else None
    parts = {name: part_counts(part, labels.classes) for name, part in run.parts.items()}
    kinds = list(dict.fromkeys(kind for part in parts.values() for kind in part))
    split = [
        [name, *(f"{part.get(kind, 0):,}" for kind in kinds), f"{sum(part.values()):,}"] for name, part in parts.items()
    ]
    lost = sum(run.unusable.values())
    return (
        paragraph(
            f"{total:,} galaxies have votes. One is labelled with a class when at least {rule.threshold:.0%} of its "
            "votes are for it, and is ambiguous otherwise.",
            f"{lost:,} labelled galaxies had no usable cutout."
            if lost
            else "Every labelled galaxy had a usable cutout.",
        )
        + side_by_side(
            table(["", "galaxies", "share"], rows),
            table(["part", *kinds, "all"], split, "A hash of the galaxy’s id decides which part it is in."),
        )
        + section(
            "Votes",
            album.figure(
                "vote_histograms",
                vote_histograms(votes, rule.threshold, others),
                f"All {total:,} galaxies by their share of the votes for each answer, each on its own scale; right of "
                "the dashed line a galaxy is labelled.",
            ),
        )
        + section("Sample galaxies", _samples(run, album))
    )


def _samples(run: TrainingRun, album: Album) -> str:
    generator, rows = np.random.default_rng(0), []
    for place, name in enumerate(run.labels.classes):
        members = [(part, row) for part in run.parts.values() for row in np.flatnonzero(part.labels == place)]
        pictures = []
        for position in sorted(generator.permutation(len(members))[:_SAMPLES].tolist()):
            part, row = members[position]
            votes = " / ".join(f"{vote:.2f}" for vote in part.votes[row])
            pictures.append(Picture(part.pixels[row], (votes, part.ids[row])))
        rows.append((name, pictures))
    return album.figure(
        "sample_galaxies",
        contact_sheet(rows),
        "Drawn at random, as the network sees them; under each its votes for "
        f"{' / '.join(run.labels.classes)}, and its id.",
    )


def _fit(run: TrainingRun, album: Album) -> str:
    if not run.epochs:
        return paragraph("No epochs were run.")
    phases: dict[str, list[Epoch]] = {}
    for epoch in run.epochs:
        phases.setdefault(epoch.phase, []).append(epoch)
    rows = [
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
    ]
    header = [
        "phase",
        "epochs",
        "loss",
        "calibration loss",
        "accuracy",
        "calibration accuracy",
        "s per epoch",
        "s in all",
    ]
    return (
        paragraph(
            "First only the linear head learns, then the last blocks too; the calibration galaxies are only watched.",
            f"The whole run took {run.seconds:.0f} s.",
        )
        + album.figure(
            "learning_curves",
            learning_curves(run.epochs),
            "Training galaxies are measured while the network changes, calibration galaxies after each epoch; when the "
            "two part, the network learns by heart.",
        )
        + table(header, rows, "Loss and accuracy after the last epoch of each phase; seconds per epoch are the median.")
    )


def _making(run: TrainingRun) -> str:
    config = dataclasses.asdict(run.config)
    rest = {name: value for name, value in run.checkpoint.training.items() if name not in config}
    about = {
        "checkpoint": run.checkpoint.checkpoint_id or "not saved",
        "temperature": run.checkpoint.temperature,
        "review threshold": run.checkpoint.min_confidence,
        **dataclasses.asdict(run.checkpoint.spec),
    }
    shown = {
        title: section(title, settings(values))
        for title, values in (
            ("Checkpoint", about),
            ("Label rule", dict(run.checkpoint.label_rule)),
            ("Provenance", rest),
            ("Config", config),
        )
        if values
    }
    last = shown.pop("Config")
    return side_by_side(*(f"<div>{html}</div>" for html in shown.values())) + last
