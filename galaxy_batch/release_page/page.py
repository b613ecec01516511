"""The page of a release: one self-contained HTML file beside the catalog, made from the catalog's files alone.

::

    catalog ─> count_release ─> read_examples ─> fetch_tiles ─> sections ─> report/index.html

Only the cutouts of the contact sheets come from elsewhere: from where the survey's manifest has them.
"""

import json
import logging
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from galaxy_batch.catalog.layout import MANIFEST, read_manifest
from galaxy_batch.config import ManifestConfig, ReportConfig
from galaxy_batch.errors import InputError, without_secrets
from galaxy_batch.release_page.counts import Place, ReleaseCounts, count_release, share
from galaxy_batch.release_page.examples import fetch_tiles, read_examples
from galaxy_batch.release_page.sections import (
    accuracy_section,
    classes_section,
    cutouts_section,
    making_section,
    queries_section,
    review_section,
)
from galaxy_batch.release_page.sky import sky_section
from galaxy_batch.report.html import Tile, cards, page, percent
from galaxy_batch.rows import ReviewFlag, Status
from galaxy_batch.storage.files import join, read_bytes, write_atomically

__all__ = ["PAGE", "write_release_page"]

logger = logging.getLogger(__name__)

PAGE = "index.html"


def write_release_page(
    catalog_uri: str,
    report_uri: str,
    config: ReportConfig,
    source: ManifestConfig | None = None,
    run: Mapping[str, Any] | None = None,
) -> str:
    """Write the page of a published catalog, and give its URI.

    Args:
        catalog_uri: the catalog's folder.
        report_uri: the folder that gets `index.html`; not one within the catalog.
        config: contact sheets.
        source: where the cutouts are; as the catalog's own config says, when not given.
        run: the summary of the run that made the catalog; read from the record of the run, when not given.

    Raises:
        InputError: no catalog is published there.
    """
    manifest = read_manifest(catalog_uri)
    if manifest is None:
        raise InputError("catalog_uri", catalog_uri, f"no {MANIFEST}: nothing is published there")
    counts = count_release(catalog_uri, manifest, config.cutouts, config.seed)
    sheets, failed = _drawn(counts)
    places = [place for kinds in sheets.values() for drawn in kinds.values() for place in drawn]
    examples = read_examples(catalog_uri, manifest, [*failed, *places])
    tiles = fetch_tiles([examples[place] for place in places], manifest, source)
    shown: dict[str, dict[str, list[Tile]]] = {
        name: {kind: [tiles[examples[place].object_id] for place in drawn] for kind, drawn in kinds.items()}
        for name, kinds in sheets.items()
    }
    sections = {
        "Classes": classes_section(counts, float(manifest["min_confidence"])),
        "The sky": sky_section(counts),
        "Accuracy to expect": accuracy_section(counts, manifest),
        "Review": review_section(counts, manifest, [examples[place] for place in failed]),
        "Galaxies": cutouts_section(shown),
        "How to query it": queries_section(without_secrets(catalog_uri), counts.classes),
        "How it was made": making_section(manifest, run or _run_record(catalog_uri, manifest)),
    }
    about = [("model", str(manifest["model_id"])), ("run", str(manifest["run_id"]))]
    html = page(f"Galaxy morphologies: {manifest['release']}", about, _headline(counts), sections)
    uri = join(report_uri, PAGE)
    write_atomically(uri, html.encode())
    logger.info("page of the release: %s", without_secrets(uri))
    return uri


def _drawn(counts: ReleaseCounts) -> tuple[dict[str, dict[str, list[Place]]], list[Place]]:
    """Rows for the contact sheets, by class and kind, and rows without a class."""
    sheets = {
        name: {
            "confident": counts.confident_of(label),
            "uncertain": counts.uncertain_of(label),
            "flagged": counts.flagged_of(label),
        }
        for label, name in enumerate(counts.classes)
    }
    return sheets, [place for status in Status if status != Status.OK for place in counts.failed_of(status)]


def _headline(counts: ReleaseCounts) -> str:
    known, kept, placed = int(counts.confident.sum()), int(counts.kept.sum()), int(counts.sky.sum())
    mix = [(name, int(n)) for name, n in zip(counts.classes, counts.confident.sum(axis=1), strict=True)]
    bad = [f"{n:,} {status}" for status, n in counts.statuses.most_common() if status != Status.OK]
    repeated, flagged = counts.flagged(ReviewFlag.REPEATED_IMAGE), counts.flagged()
    return cards(
        [
            ("Galaxies", f"{counts.rows:,}", f"{placed:,} with a position"),
            ("With a class", percent(share(known, counts.rows)), _listed(mix, known)),
            ("Without a class", f"{counts.failed:,}", ", ".join(bad) or "every cutout could be read"),
            ("Sent to review", percent(share(flagged, counts.rows)), _most_frequent(counts)),
            (
                "Accuracy to expect",
                percent(share(counts.confidence_sum.sum(), known)),
                f"{percent(share(counts.kept_sum.sum(), kept))} of the {kept:,} rows without a flag",
            ),
            ("Repeated images", f"{repeated:,}", "rows whose cutout many objects share"),
        ]
    )


def _most_frequent(counts: ReleaseCounts) -> str:
    frequent = max(ReviewFlag, key=counts.flagged)
    most = counts.flagged(frequent)
    return f"{counts.flagged():,} rows have a flag" + (f", {most:,} {frequent.name}" if most else "")


def _listed(mix: Sequence[tuple[str, int]], known: int) -> str:
    return ", ".join(f"{percent(share(count, known))} {name}" for name, count in mix)


def _run_record(catalog_uri: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The summary in the record of the run that made the catalog; empty where there is none any more."""
    try:
        folder = join(posixpath.dirname(catalog_uri.rstrip("/")), "runs")
        record = json.loads(read_bytes(join(folder, f"{manifest['run_id']}.json")))
    except (OSError, ValueError):
        return {}
    summary: dict[str, Any] = record.get("summary", {})
    return summary
