"""README.md of a shared catalog: a dataset card as the Hugging Face hub reads it, for astronomers."""

import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from galaxy_batch.catalog.collection import COLLECTION
from galaxy_batch.report.page import count, percent
from galaxy_batch.rows import ReviewFlag, Status
from galaxy_batch.sharing.citation import bibtex, citation_line
from galaxy_batch.sharing.croissant import ROWS
from galaxy_batch.sharing.description import SharedCatalog, markdown, shown_uri
from galaxy_batch.sharing.files import CATALOG
from galaxy_batch.sharing.front_matter import license_entries, with_front_matter
from galaxy_batch.stats import share

__all__ = ["CARD", "dataset_card"]

CARD = "README.md"

_SIZES = (
    "n<1K",
    "1K<n<10K",
    "10K<n<100K",
    "100K<n<1M",
    "1M<n<10M",
    "10M<n<100M",
    "100M<n<1B",
    "1B<n<10B",
    "10B<n<100B",
)
"""Categories of the hub, by powers of ten from 1,000."""
_UNKNOWN = "not known"
_NO_DOUBT = (ReviewFlag.NO_POSITION, ReviewFlag.AUDIT)
"""Flags that say nothing about the class."""


def dataset_card(catalog: SharedCatalog) -> bytes:
    """The content of `README.md`: front matter, and Markdown."""
    about, rows = catalog.about, catalog.manifest.rows
    size = next((number for number in range(len(_SIZES)) if rows < 1000 * 10**number), len(_SIZES) - 1)
    entries = {
        **license_entries(about.license),
        "pretty_name": catalog.title,
        "tags": [*about.keywords, "hats", "parquet"],
        "size_categories": [_SIZES[size]],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": list(ROWS)}]}],
    }
    return with_front_matter(entries, markdown("dataset_card.md", **_values(catalog)))


def _values(catalog: SharedCatalog) -> dict[str, Any]:
    manifest = catalog.manifest
    checkpoint = catalog.checkpoint
    unfamiliar = catalog.flagged(ReviewFlag.UNFAMILIAR) if manifest.max_unfamiliarity is not None else math.nan
    statuses = {name: rows for name, rows in manifest.status_counts.items() if name != Status.OK and rows}
    folders = {name.partition("/")[0] for name in catalog.files if "/" in name}
    return {
        "catalog": catalog,
        "manifest": manifest,
        "about": catalog.about,
        "checkpoint": checkpoint,
        "network": (checkpoint.get("spec") or {}).get("architecture", "network not recorded"),
        "promised": catalog.promised,
        "threshold": (checkpoint.get("label_rule") or {}).get("threshold"),
        "audits": {name: _audit_values(audit) for name, audit in catalog.audits.items()},
        "refuted": any(audit.get("holds") is False for audit in catalog.audits.values()),
        "audit_rows": manifest.flag_counts.get("AUDIT", 0),
        "unfamiliar": None if math.isnan(unfamiliar) else unfamiliar,
        "class_rows": [
            (name, manifest.class_counts.get(name, 0), share(manifest.class_counts.get(name, 0), catalog.classified))
            for name in manifest.classes
        ],
        "frequent": max(manifest.flag_counts, key=lambda name: manifest.flag_counts[name]) if manifest.flagged else "",
        "doubts": sum(flag for flag in manifest.flags if flag not in _NO_DOUBT),
        "position": catalog.position,
        "flag_rows": [(flag, manifest.flag_counts[str(flag.name)]) for flag in manifest.flags],
        "failed_statuses": [f"{count(rows)} {name}" for name, rows in statuses.items()],
        "integer_ids": manifest.id_type == pa.int64(),
        "survey": shown_uri(manifest.survey) if manifest.survey else "",
        "builder": " ".join(filter(None, ("`galaxy_batch`", manifest.versions.get("galaxy-batch")))),
        "size": _size(catalog.size),
        "has_collection": COLLECTION in catalog.files,
        "members": sorted(folders - {CATALOG, "model"}),
        "place": catalog.target_uri.rstrip("/") if catalog.is_on_hub else ".",
        "citation": citation_line(catalog),
        "bibtex": bibtex(catalog) if catalog.about.authors else "",
    }


def _audit_values(audit: Mapping[str, Any]) -> dict[str, Any]:
    """An audit with its estimates as text."""
    classes = [
        {**row, **{name: _estimate(row[name]) for name in ("purity", "completeness")}} for row in audit["classes"]
    ]
    artifacts = _estimate(audit.get("artifact_share") or {})
    text = f"Artifacts, which are no galaxies, are {artifacts} of the rows with a class."
    return {**audit, "classes": classes, "artifacts_text": "" if artifacts == _UNKNOWN else text}


def _estimate(estimate: Mapping[str, Any]) -> str:
    value, low, high = (estimate.get(name) for name in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return _UNKNOWN
    return f"{percent(value)} ({100 * low:.1f}–{100 * high:.1f}%)"


def _size(size: float) -> str:
    """A number of bytes with a decimal prefix."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
