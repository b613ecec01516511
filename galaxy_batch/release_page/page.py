"""The page of a release: one self-contained HTML file beside the catalog, made from the catalog's files.

::

    catalog ─> count_release ─> read_examples ─> fetch_examples ─> templates/release.html ─> report/index.html

Only the cutouts of the examples are read from the survey itself, through the catalog's manifest config; the checkpoint
is read for their Grad-CAM maps.
"""

import json
import logging
import posixpath
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from galaxy_batch.catalog.manifest import CatalogManifest, require_manifest
from galaxy_batch.config import ManifestConfig, ReportConfig
from galaxy_batch.decision_tree import MOSTLY_ASKED, Question
from galaxy_batch.errors import GalaxyBatchError, without_secrets
from galaxy_batch.links import link_to
from galaxy_batch.release_page.counts import ReleaseCounts, count_release, mapped_class
from galaxy_batch.release_page.examples import Example, example_tile, explain_flagged, read_examples
from galaxy_batch.release_page.figures import answer_distributions, confidence_histograms, review_curve
from galaxy_batch.release_page.sampling import RowLocation
from galaxy_batch.release_page.sky import sky_maps
from galaxy_batch.report.cutouts import Cutout, fetch_examples
from galaxy_batch.report.figures import embed
from galaxy_batch.report.page import Picture, Tile, count, percent, render
from galaxy_batch.rows import ReviewFlag, Status, catalog_schema
from galaxy_batch.stats import share
from galaxy_batch.storage.files import join, read_bytes, write_atomically

__all__ = ["PAGE", "write_release_page"]

logger = logging.getLogger(__name__)

PAGE = "index.html"
_SHOWN_BINS = 50
_MAX_UNFAMILIAR = 0.05  # share of the classified rows; about 0.01 in a release like the training galaxies
_MAX_ECE = 0.1  # of confidences that are probabilities


def write_release_page(
    catalog_uri: str,
    report_uri: str,
    config: ReportConfig,
    source: ManifestConfig | None = None,
    run: Mapping[str, Any] | None = None,
    checkpoint_uri: str | None = None,
) -> str:
    """Write the page of a published catalog; its URI.

    Args:
        catalog_uri: the catalog's folder.
        report_uri: the folder that gets `index.html`, outside the catalog.
        config: how many examples are shown, and their links.
        source: where the cutouts are; by default as the catalog's own config says.
        run: the summary of the run that made the catalog; by default read from the run's record.
        checkpoint_uri: of the catalog's checkpoint; by default as the catalog's own config says.

    Raises:
        InputError: no catalog is published there.
    """
    manifest = require_manifest(catalog_uri)
    counts = count_release(catalog_uri, manifest, config.cutouts, config.seed)
    caveat = _accuracy_caveat(counts, manifest)
    checkpoint_uri = checkpoint_uri or str(manifest.config.get("checkpoint_uri", ""))
    html = render(
        "galaxy_batch.release_page",
        "release.html",
        title=f"Galaxy morphologies: {manifest.release}",
        about=[("model", manifest.model_id), ("run", manifest.run_id)],
        catalog_uri=without_secrets(catalog_uri),
        manifest=manifest,
        checkpoint=manifest.checkpoint,
        counts=counts,
        headline=_headline(counts, caveat),
        caveat=caveat,
        calibration_galaxies=manifest.checkpoint.get("training", {}).get("galaxies_per_split", {}).get("calibration"),
        of_class=mapped_class(counts.classes),
        sky=sky_maps(counts),
        mostly_asked=MOSTLY_ASKED,
        **_classes(counts, manifest.min_confidence),
        **_accuracy(counts),
        **_flags(counts, manifest),
        **_examples(counts, catalog_uri, manifest, _Shown(config, report_uri, checkpoint_uri, source)),
        training_report=_training_report(checkpoint_uri, manifest.model_id, report_uri),
        column_rows=_column_rows(manifest),
        **_provenance(manifest, run or _run_record(catalog_uri, manifest)),
    )
    uri = join(report_uri, PAGE)
    write_atomically(uri, html.encode())
    logger.info("release page: %s", without_secrets(uri))
    return uri


def _accuracy_caveat(counts: ReleaseCounts, manifest: CatalogManifest) -> str:
    """Why the mean confidence is not the expected accuracy in this release; empty where nothing indicates that."""
    ece = manifest.checkpoint.get("ece") or 0.0
    if ece > _MAX_ECE:
        return f"the checkpoint's calibration error is {ece:.3f}, so its confidence is not a probability"
    unfamiliar = share(counts.flagged(ReviewFlag.UNFAMILIAR), int(counts.classified.sum()))
    if unfamiliar > _MAX_UNFAMILIAR:
        return f"{percent(unfamiliar)} of the galaxies are unlike the training galaxies (UNFAMILIAR)"
    return ""


def _headline(counts: ReleaseCounts, caveat: str) -> list[tuple[str, str, str]]:
    classified, unflagged = int(counts.classified.sum()), int(counts.unflagged.sum())
    mix = zip(counts.classes, counts.classified.sum(axis=1).tolist(), strict=True)
    bad = [f"{n:,} {status}" for status, n in counts.statuses.most_common() if status != Status.OK]
    frequent = max(ReviewFlag, key=counts.flagged)
    most = f", {counts.flagged(frequent):,} {frequent.name}" if counts.flagged(frequent) else ""
    return [
        ("Galaxies", f"{counts.rows:,}", f"{int(counts.sky.sum()):,} with a position"),
        (
            "With a class",
            percent(share(classified, counts.rows)),
            ", ".join(f"{percent(share(n, classified))} {c}" for c, n in mix),
        ),
        ("Without a class", f"{counts.failed:,}", ", ".join(bad) or "every cutout could be read"),
        (
            "Flagged for review",
            percent(share(counts.flagged(), counts.rows)),
            f"{count(counts.flagged(), 'row')}{most}",
        ),
        (
            "Expected accuracy",
            "unknown" if caveat else percent(share(counts.confidence_sum.sum(), classified)),
            caveat
            or "for galaxies like the calibration sample; "
            f"{percent(share(counts.unflagged_sum.sum(), unflagged))} for the {count(unflagged, 'row')} without a flag",
        ),
        ("Repeated images", f"{counts.flagged(ReviewFlag.REPEATED_IMAGE):,}", "rows whose cutout many objects share"),
    ]


def _classes(counts: ReleaseCounts, min_confidence: float) -> dict[str, Any]:
    totals, unflagged = counts.classified.sum(axis=1), counts.unflagged.sum(axis=1)
    by_class = list(zip(counts.classes, totals.tolist(), strict=True))
    lowest = _SHOWN_BINS // len(counts.classes) if len(counts.classes) > 1 else 0
    bins = counts.classified.reshape(len(counts.classes), _SHOWN_BINS, -1).sum(axis=2)
    bins[:, lowest] += bins[:, :lowest].sum(axis=1)  # confidences that rounding put below 1 / classes
    shown = dict(zip(counts.classes, bins[:, lowest:], strict=True))
    described = ", ".join(f"{name}: {rows:,}" for name, rows in by_class)
    return {
        "min_confidence": min_confidence,
        "class_counts": [*by_class, ("no class", counts.failed)],
        "class_rows": [
            [
                name,
                f"{total:,}",
                percent(share(total, totals.sum())),
                f"{left:,}",
                percent(share(left, unflagged.sum())),
            ]
            for (name, total), left in zip(by_class, unflagged.tolist(), strict=True)
        ],
        "confidence": embed(
            lambda width_px: confidence_histograms(width_px, shown, lowest / _SHOWN_BINS, min_confidence),
            f"Histograms of the confidence by class. {described}",
        ),
    }


def _accuracy(counts: ReleaseCounts) -> dict[str, Any]:
    sets = (counts.classified, counts.confidence_sum, counts.unflagged, counts.unflagged_sum)
    audited = sum(n for mask, n in counts.masks.items() if mask & ReviewFlag.AUDIT and not mask & ReviewFlag.UNREADABLE)
    return {
        "audited": audited,
        "review_curve": _review_curve(counts) if counts.classified.any() else None,
        "accuracy_rows": [
            _expected_accuracy(name, *values)
            for name, *values in [("all", *sets), *zip(counts.classes, *sets, strict=True)]
        ],
    }


def _expected_accuracy(name: str, rows: Any, sums: Any, unflagged: Any, unflagged_sums: Any) -> list[str]:
    accuracies = percent(share(sums.sum(), rows.sum())), percent(share(unflagged_sums.sum(), unflagged.sum()))
    return [name, f"{int(rows.sum()):,}", accuracies[0], f"{int(unflagged.sum()):,}", accuracies[1]]


def _review_curve(counts: ReleaseCounts) -> Markup:
    rows, sums = counts.classified.sum(axis=0), counts.confidence_sum.sum(axis=0)
    left, right = np.cumsum(rows[::-1])[::-1], np.cumsum(sums[::-1])[::-1]
    have = left >= max(1, 0.01 * left[0])
    reviewed, accuracy = 1 - left[have] / left[0], right[have] / left[have]
    flagged, label = None, "Expected accuracy of the other rows by the share of the rows reviewed."
    if counts.unflagged.any():
        flagged = 1 - share(counts.unflagged.sum(), left[0]), share(counts.unflagged_sum.sum(), counts.unflagged.sum())
        label += f" All flagged rows: {flagged[0]:.1%} and {flagged[1]:.1%}."
    return embed(lambda width_px: review_curve(width_px, reviewed, accuracy, flagged), label)


def _flags(counts: ReleaseCounts, manifest: CatalogManifest) -> dict[str, Any]:
    rows = []
    for flag in ReviewFlag:
        number = counts.flagged(flag)
        numbers = [f"{number:,}", percent(share(number, counts.rows)), f"{counts.flagged(flag, alone=True):,}"]
        measured = number > 0 or _is_measured(flag, manifest)
        rows.append(
            [flag.name, *(numbers if measured else "–––"), flag.meaning + ("" if measured else " (not measured)")]
        )
    statuses = [[status, f"{n:,}", percent(share(n, counts.rows))] for status, n in counts.statuses.most_common()]
    return {"flag_rows": rows, "status_rows": statuses}


def _is_measured(flag: ReviewFlag, manifest: CatalogManifest) -> bool:
    """Whether a row could get this flag: some need positions, a limit, or several views of each cutout."""
    if flag == ReviewFlag.NO_POSITION:
        return manifest.config.get("manifest", {}).get("ra_column", "") is not None
    if flag == ReviewFlag.UNFAMILIAR:
        return manifest.max_unfamiliarity is not None
    if flag == ReviewFlag.UNSTABLE:
        of_model = manifest.checkpoint.get("spec", {}).get("views", 1)
        of_run = manifest.config.get("classify", {}).get("stability_views", 1)
        return manifest.max_instability is not None and max(of_model, of_run) > 1
    return True


@dataclass(frozen=True)
class _Shown:
    """How examples are shown."""

    config: ReportConfig
    report_uri: str
    checkpoint_uri: str
    source: ManifestConfig | None


def _examples(counts: ReleaseCounts, catalog_uri: str, manifest: CatalogManifest, shown: _Shown) -> dict[str, Any]:
    """Contact sheets by class and kind, rows without a class, and the answers with their contact sheets."""
    kinds = {"confident": counts.confident_of, "uncertain": counts.uncertain_of, "flagged": counts.flagged_of}
    sheets = {
        name: {kind: of_class(label) for kind, of_class in kinds.items()} for label, name in enumerate(counts.classes)
    }
    rows = [row for kind in reversed(kinds) for of_class in sheets.values() for row in of_class[kind]]
    failed = [row for status in Status if status != Status.OK for row in counts.failed_of(status)]
    answers = {(q, n): counts.answers.strongest(q, n) for q in counts.questions for n in range(len(q.answers))}
    with_cutout = list(dict.fromkeys([*rows, *(row for strongest in answers.values() for row in strongest)]))
    examples = read_examples(catalog_uri, manifest, [*failed, *with_cutout])
    cutouts = fetch_examples([examples[row].object_id for row in with_cutout], manifest, shown.source)
    maps = _grad_cam([examples[row] for row in rows], cutouts, manifest, shown)

    def tile(row: RowLocation) -> Tile:
        example, name = examples[row], str(examples[row].object_id)
        return example_tile(example, cutouts[name], shown.config.links, shown.report_uri, maps.get(name))

    def answer_tile(row: RowLocation, answer: str) -> Tile:
        example = examples[row]
        cutout = cutouts[str(example.object_id)]
        return example_tile(example, cutout, shown.config.links, shown.report_uri, answer=answer)

    return {
        "grad_cam": bool(maps),
        "failures": [(examples[row].object_id, examples[row].status, examples[row].error or "") for row in failed],
        "sheets": {
            name: {kind: [tile(row) for row in rows] for kind, rows in of_class.items()}
            for name, of_class in sheets.items()
        },
        "questions": [
            _question(counts, question)
            | {
                "sheets": {
                    answer.title: [
                        answer_tile(row, f"{answer.title} {fraction:.2f}")
                        for row, fraction in answers[question, place].items()
                    ]
                    for place, answer in enumerate(question.answers)
                }
            }
            for question in counts.questions
        ],
    }


def _question(counts: ReleaseCounts, question: Question) -> dict[str, Any]:
    """Distribution of the fractions of each answer."""
    galaxies, histograms = counts.answers.galaxies(question), counts.answers.histograms[question.name]
    answers = [answer.title for answer in question.answers]
    shown, means = dict(zip(answers, histograms, strict=True)), counts.answers.mean(question).tolist()
    above = histograms[:, histograms.shape[1] // 2 :].sum(axis=1).tolist()
    label = f"Distributions of the fractions: {question.title}. Mean of "
    label += ", ".join(f"{answer}: {percent(mean)}" for answer, mean in zip(answers, means, strict=True))
    return {
        "title": question.title,
        "galaxies": galaxies,
        "drawing": embed(lambda width_px: answer_distributions(width_px, shown), label) if galaxies else None,
        "rows": [
            [answer, percent(mean), f"{most:,}", percent(share(most, galaxies))]
            for answer, mean, most in zip(answers, means, above, strict=True)
        ],
    }


def _grad_cam(
    examples: Sequence[Example], cutouts: Mapping[str, Cutout], manifest: CatalogManifest, shown: _Shown
) -> dict[str, Picture]:
    """Maps by object id; empty where they are disabled or cannot be made, which is only logged."""
    if not shown.config.grad_cam or not shown.checkpoint_uri:
        return {}
    started = time.monotonic()
    try:
        maps = explain_flagged(examples, cutouts, manifest, shown.checkpoint_uri)
    except GalaxyBatchError as error:
        logger.warning("no Grad-CAM on the page: %s", error)
        return {}
    except Exception:
        logger.warning("no Grad-CAM on the page", exc_info=True)
        return {}
    if maps:
        logger.info("Grad-CAM of %s in %.1f s", count(len(maps), "galaxy", "galaxies"), time.monotonic() - started)
    return maps


def _training_report(checkpoint_uri: str, model_id: str, report_uri: str) -> str | None:
    """Address of the report in the checkpoint's folder; None where it is not there or about another checkpoint."""
    folder = join(posixpath.dirname(checkpoint_uri), "report")
    try:
        metrics = json.loads(read_bytes(join(folder, "metrics.json"))) if "/" in checkpoint_uri else {}
    except (OSError, ValueError):
        return None
    return link_to(join(folder, PAGE), report_uri) if metrics.get("checkpoint_id") == model_id else None


def _column_rows(manifest: CatalogManifest) -> list[list[str]]:
    """Name, type, unit and meaning of each column."""
    own = catalog_schema(pa.string(), manifest.classes, (), manifest.questions, manifest.concentrations)
    known = {field.name: field.metadata or {} for field in own}
    kept = {b"description": b"as in the survey's manifest"}
    return [
        [name, kind, *(known.get(name, kept).get(key, b"").decode() for key in (b"unit", b"description"))]
        for name, kind in manifest.schema.items()
    ]


def _provenance(manifest: CatalogManifest, run: Mapping[str, Any]) -> dict[str, Any]:
    names = ("release", "survey", "created", "run_id", "fingerprint", "model_id", "min_confidence", "rows")
    made = {name: getattr(manifest, name) for name in names} | {"files": len(manifest.files)}
    made |= {"reused": manifest.reuse} if manifest.reuse else {}
    made |= {name: run[name] for name in ("steady_rate_per_s", "step_seconds", "computed_rows") if run.get(name)}
    hidden = ("training", "checkpoint_id")
    model = {name: value for name, value in manifest.checkpoint.items() if name not in hidden}
    if manifest.questions:
        model["spec"] = {**model["spec"], "questions": [question.name for question in manifest.questions]}
    return {"provenance": made, "model": model}


def _run_record(catalog_uri: str, manifest: CatalogManifest) -> dict[str, Any]:
    """The summary in the record of the run that made the catalog; empty where there is no record."""
    try:
        folder = join(posixpath.dirname(catalog_uri.rstrip("/")), "runs")
        record = json.loads(read_bytes(join(folder, f"{manifest.run_id}.json")))
    except (OSError, ValueError):
        return {}
    summary: dict[str, Any] = record.get("summary", {})
    return summary
