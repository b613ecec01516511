"""The published catalog: where everything is, and what makes files one that readers may see.

::

    <output_uri>/release=<name>/model=<checkpoint id>/
        parts/<fingerprint>/part-000000.parquet     one per chunk, written while the job runs
        earlier/<fingerprint>/                      answers of `reuse_from`, until the catalog is published
        exchange/<fingerprint>/                     sorted runs, only while the catalog is being published
        catalog/
            dataset/Norder=<k>/Dir=<d>/Npix=<p>.parquet     the rows of a patch of the sky: a HATS catalog, see `hats`
            without_position/part-000000.parquet            the rows that are nowhere on the sky; may be empty
            hats.properties, partition_info.csv, skymap.fits, dataset/_metadata, dataset/_common_metadata
            manifest.json                                   written last: without it there is no catalog
        runs/<run id>.json                          one per run: config, times, outcome
        report/index.html                           the page of the release; made again from the catalog at any time
"""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from galaxy_batch.errors import InputError
from galaxy_batch.rows import ReviewFlag
from galaxy_batch.storage.files import join, read_bytes, remove_tree, write_atomically

__all__ = [
    "FORMAT",
    "MANIFEST",
    "Layout",
    "fingerprint",
    "publish_manifest",
    "read_manifest",
    "unpublish",
    "write_json",
]

MANIFEST = "manifest.json"
FORMAT = 2
"""Of parts, catalog and manifest.json; part of the fingerprint."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Every path of one release under one checkpoint."""

    output_uri: str
    release: str
    model_id: str

    @property
    def root(self) -> str:
        """The folder of this release and this checkpoint; another checkpoint has another."""
        return join(self.output_uri, f"release={self.release}", f"model={self.model_id}")

    @property
    def catalog(self) -> str:
        """The published catalog."""
        return join(self.root, "catalog")

    def parts(self, mark: str) -> str:
        """The folder of parts with this fingerprint."""
        return join(self.root, "parts", mark)

    def exchange(self, mark: str) -> str:
        """The folder of the sorted runs that the parts with this fingerprint become on their way into the catalog."""
        return join(self.root, "exchange", mark)

    @property
    def report(self) -> str:
        """The folder of the page of the release."""
        return join(self.root, "report")

    def earlier(self, mark: str) -> str:
        """The folder of an earlier catalog's answers, in the order of the manifest with this fingerprint."""
        return join(self.root, "earlier", mark)

    def run(self, run_id: str) -> str:
        """The record of one run."""
        return join(self.root, "runs", f"{run_id}.json")


def fingerprint(manifest_id: str, model_id: str, settings: Mapping[str, Any]) -> str:
    """16 hex digits for all that a part is made from: manifest content, checkpoint, settings that change a value."""
    made_from = {"format": FORMAT, "manifest": manifest_id, "model": model_id, "settings": settings}
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]


def publish_manifest(
    catalog_uri: str,
    files: Iterable[Mapping[str, Any]],
    metadata_files: Iterable[Mapping[str, Any]],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Write `manifest.json`, the step that makes the files a catalog, and return its content.

    Args:
        catalog_uri: the catalog's folder.
        files: what `write_catalog_file` gave for each file of rows.
        metadata_files: what `write_metadata_file` gave for each other file.
        about: everything else that the manifest records: release, config, checkpoint, versions.
    """
    listed = sorted(files, key=lambda entry: str(entry["path"]))
    totals: dict[str, Counter[str]] = {"status": Counter(), "class": Counter(), "flag": Counter(), "row": Counter()}
    for entry in listed:
        for kind, counts in entry["counts"].items():
            totals[kind].update(counts)
    manifest = {
        "format": FORMAT,
        "rows": sum(entry["rows"] for entry in listed),
        "failed": totals["row"]["failed"],
        "flagged": totals["row"]["flagged"],
        "without_position": totals["row"]["without_position"],
        "status_counts": dict(sorted(totals["status"].items())),
        "class_counts": dict(sorted(totals["class"].items())),
        "flag_counts": {flag.name: totals["flag"][str(flag.name)] for flag in ReviewFlag},
        # text, because few readers of JSON keep 64 bits of a number
        "ids_checksum": f"{sum(entry['ids'] for entry in listed) % 2**64:016x}",
        **about,
        "files": [{key: entry[key] for key in ("path", "rows", "bytes", "sha256")} for entry in listed],
        "metadata_files": sorted(metadata_files, key=lambda entry: str(entry["path"])),
    }
    write_json(join(catalog_uri, MANIFEST), manifest)
    return manifest


def read_manifest(catalog_uri: str) -> dict[str, Any] | None:
    """Content of `manifest.json`; None where no catalog is published.

    Raises:
        InputError: the file is there and is not the manifest of a catalog.
    """
    try:
        content = read_bytes(join(catalog_uri, MANIFEST))
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        manifest = json.loads(content)
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), list) or "fingerprint" not in manifest:
        raise InputError("catalog", catalog_uri, f"{MANIFEST} is damaged: verify the catalog, or remove its folder")
    return manifest


def unpublish(catalog_uri: str) -> None:
    """Remove a catalog, or what an interrupted publication left; first the manifest, which makes it a catalog."""
    remove_tree(join(catalog_uri, MANIFEST))
    remove_tree(catalog_uri)


def write_json(uri: str, content: Mapping[str, Any]) -> None:
    """Write one JSON file in one atomic step."""
    write_atomically(uri, (json.dumps(content, indent=2) + "\n").encode())
