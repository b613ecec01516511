"""The page of a release: one self-contained HTML file beside the catalog, made from the catalog's files.

::

    catalog ─> count_release ─> read_examples ─> fetch_examples ─> templates/release.html ─> report/index.html

Only the cutouts of the examples are read from the survey itself, through the catalog's manifest config; the checkpoint
is read for their Grad-CAM maps.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from galaxy_batch.catalog.manifest import CatalogManifest, require_manifest
from galaxy_batch.config import ManifestConfig, ReportConfig
from galaxy_batch.decision_tree import MOSTLY_ASKED
from galaxy_batch.errors import without_secrets
from galaxy_batch.links import link_to
from galaxy_batch.release_page.counts import ReleaseCounts, count_release, mapped_class
from galaxy_batch.release_page.sheets import SheetOptions, contact_sheets
from galaxy_batch.release_page.sky import sky_maps
from galaxy_batch.release_page.tables import accuracy_tables, class_tables, flag_tables, headline
from galaxy_batch.report.page import percent, render
from galaxy_batch.rows import ReviewFlag, catalog_schema
from galaxy_batch.stats import share
from galaxy_batch.storage.files import beside, join, read_bytes, write_atomically

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
        headline=headline(counts, caveat),
        caveat=caveat,
        calibration_galaxies=manifest.checkpoint.get("training", {}).get("galaxies_per_split", {}).get("calibration"),
        of_class=mapped_class(counts.classes),
        sky=sky_maps(counts),
        mostly_asked=MOSTLY_ASKED,
        **class_tables(counts, manifest.min_confidence),
        **accuracy_tables(counts),
        **flag_tables(counts, manifest),
        **contact_sheets(counts, catalog_uri, manifest, SheetOptions(config, report_uri, checkpoint_uri, source)),
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


def _training_report(checkpoint_uri: str, model_id: str, report_uri: str) -> str | None:
    """Address of the report in the checkpoint's folder; None where it is not there or about another checkpoint."""
    folder = beside(checkpoint_uri, "report")
    try:
        metrics = json.loads(read_bytes(join(folder, "metrics.json"))) if "/" in checkpoint_uri else {}
    except (OSError, ValueError):
        return None
    return link_to(join(folder, PAGE), report_uri) if metrics.get("checkpoint_id") == model_id else None


def _column_rows(manifest: CatalogManifest) -> list[list[str]]:
    """Name, type, unit and meaning of each column."""
    own = catalog_schema(
        pa.string(), manifest.classes, (), manifest.questions, manifest.concentrations, manifest.keeps_image_uri
    )
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
        folder = beside(catalog_uri, "runs")
        record = json.loads(read_bytes(join(folder, f"{manifest.run_id}.json")))
    except (OSError, ValueError):
        return {}
    summary: dict[str, Any] = record.get("summary", {})
    return summary
