"""Contact sheets of the page of a release: example galaxies by class and kind, and by answer."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.config import ManifestConfig, ReportConfig
from galaxy_batch.decision_tree import Question
from galaxy_batch.errors import GalaxyBatchError
from galaxy_batch.release_page.counts import ReleaseCounts
from galaxy_batch.release_page.examples import Example, example_tile, explain_flagged, read_examples
from galaxy_batch.release_page.figures import answer_distributions
from galaxy_batch.release_page.sampling import RowLocation
from galaxy_batch.report.cutouts import Cutout, fetch_examples
from galaxy_batch.report.figures import embed
from galaxy_batch.report.page import Picture, Tile, count, percent
from galaxy_batch.rows import Status
from galaxy_batch.stats import share

__all__ = ["SheetOptions", "contact_sheets"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SheetOptions:
    """How examples are options."""

    config: ReportConfig
    report_uri: str
    checkpoint_uri: str
    source: ManifestConfig | None


def contact_sheets(
    counts: ReleaseCounts, catalog_uri: str, manifest: CatalogManifest, options: SheetOptions
) -> dict[str, Any]:
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
    cutouts = fetch_examples([examples[row].object_id for row in with_cutout], manifest, options.source)
    maps = _grad_cam([examples[row] for row in rows], cutouts, manifest, options)

    def tile(row: RowLocation) -> Tile:
        example, name = examples[row], str(examples[row].object_id)
        return example_tile(example, cutouts[name], options.config.links, options.report_uri, maps.get(name))

    def answer_tile(row: RowLocation, answer: str) -> Tile:
        example = examples[row]
        cutout = cutouts[str(example.object_id)]
        return example_tile(example, cutout, options.config.links, options.report_uri, answer=answer)

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
    examples: Sequence[Example], cutouts: Mapping[str, Cutout], manifest: CatalogManifest, options: SheetOptions
) -> dict[str, Picture]:
    """Maps by object id; empty where they are disabled or cannot be made, which is only logged."""
    if not options.config.grad_cam or not options.checkpoint_uri:
        return {}
    started = time.monotonic()
    try:
        maps = explain_flagged(examples, cutouts, manifest, options.checkpoint_uri)
    except GalaxyBatchError as error:
        logger.warning("no Grad-CAM on the page: %s", error)
        return {}
    except Exception:
        logger.warning("no Grad-CAM on the page", exc_info=True)
        return {}
    if maps:
        logger.info("Grad-CAM of %s in %.1f s", count(len(maps), "galaxy", "galaxies"), time.monotonic() - started)
    return maps
