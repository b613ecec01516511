"""Catalogs to share, and what their documents are made from."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.sharing.config import Author, ShareMetadata
from galaxy_batch.sharing.description import SharedCatalog, read_audits, read_columns, read_position
from galaxy_batch.sharing.files import catalog_files

ABOUT = ShareMetadata(
    title="Galaxies of a made-up sky",
    description="A catalog of simulated rows: bars | and <angles> are in its description.",
    authors=(
        Author("Carberry", "Josiah", orcid="0000-0002-1825-0097", affiliation="Brown University"),
        Author(name="The Made-up Collaboration"),
    ),
    license="CC-BY-4.0",
    doi="10.5281/zenodo.1234567",
    repository_url="https://example.org/code",
    references=("Lintott et al. 2011, MNRAS 410, 166",),
    acknowledgement="We thank nobody.",
)

CHECKPOINT_METADATA: dict[str, Any] = {
    "spec": {
        "architecture": "efficientnet_b0", "classes": ["smooth", "featured"], "size_px": 224, "crop_fraction": 0.6,
        "views": 4, "further_views_below": 0.3,
    },
    "label_rule": {"threshold": 0.6},
    "accuracy": 0.9,
    "ece": 0.0312,
    "min_confidence": 0.75,
    "max_unfamiliarity": 1.2,
    "training": {
        "network": {"weights": "pretrained"},
        "galaxies": {"smooth": 1347, "featured": 1833, "ambiguous": 833},
        "galaxies_per_split": {"train": 3458, "calibration": 300, "test": 144},
    },
}  # fmt: skip


def described(catalog: Path, about: ShareMetadata = ABOUT, to: str = "/shared", **changes: Any) -> SharedCatalog:
    """What the documents of a catalog are made from."""
    manifest = require_manifest(str(catalog))
    values: dict[str, Any] = {
        "manifest": manifest,
        "columns": read_columns(str(catalog)),
        "about": about,
        "audits": read_audits(str(catalog), manifest),
        "target_uri": to,
        "files": tuple(file.path for file in catalog_files(str(catalog), manifest)),
        "position": read_position(str(catalog), manifest),
        "size": 12_345_678,
        "checkpoint": CHECKPOINT_METADATA,
        **changes,
    }
    return SharedCatalog(**values)


def copied(catalog: Path, folder: Path) -> Path:
    """A copy of a catalog that a test may change."""
    return Path(shutil.copytree(catalog, folder / "release" / "catalog"))


def change_manifest(catalog: Path, **changes: Any) -> None:
    """Change entries of `manifest.json`, which then still lists the files as they are."""
    path = catalog / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def write_audit(catalog: Path, **changes: Any) -> None:
    """An `audit.json` beside a catalog, with the entries that cards read."""
    manifest = require_manifest(str(catalog))
    share = {"value": 0.91, "low": 0.874, "high": 0.937, "rows": 200, "effective": 180.0}
    classes = [
        {"name": name, "rows": 100, "purity": share, "completeness": {**share, "value": None, "low": None}}
        for name in manifest.classes
    ]
    names = {name: getattr(manifest, name) for name in ("release", "model_id", "rows")}
    audit = {"verdicts": 200, "statement": "The stated confidence holds.", "not_covered": "", "classes": classes}
    folder = catalog.parent / "audit" / "verdicts"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "audit.json").write_text(json.dumps({**names, **audit, **changes}))


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a folder, by its name there."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
