"""The published catalog: where everything is, and the step from parts to a catalog that readers may see.

::

    <output_uri>/release=<name>/model=<checkpoint id>/
        parts/<fingerprint>/part-000000.parquet     one per chunk, written while the job runs
        catalog/dataset/part-000000.parquet         what readers query
        catalog/manifest.json                       written last: without it there is no catalog
        runs/<run id>.json                          one per run: config, times, outcome
        report/
"""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.errors import InputError
from galaxy_batch.rows import CHUNK, ReviewFlag
from galaxy_batch.storage import join, parquet_bytes, read_bytes, remove_tree, write_atomically

__all__ = [
    "DATASET",
    "MANIFEST",
    "Layout",
    "fingerprint",
    "publish_manifest",
    "read_manifest",
    "unpublish",
    "write_catalog_file",
    "write_json",
]

MANIFEST = "manifest.json"
DATASET = "dataset"
_FORMAT = 1  # of parts, catalog and manifest.json; part of the fingerprint


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

    def run(self, run_id: str) -> str:
        """The record of one run."""
        return join(self.root, "runs", f"{run_id}.json")


def fingerprint(manifest_id: str, model_id: str, settings: Mapping[str, Any]) -> str:
    """16 hex digits for all that a part is made from: manifest content, checkpoint, settings that change a value."""
    made_from = {"format": _FORMAT, "manifest": manifest_id, "model": model_id, "settings": settings}
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]


def write_catalog_file(rows: pa.Table, catalog_uri: str) -> pa.Table:
    """Write the rows of one part as one file of the catalog.

    Reads the catalog columns, `_chunk`. Drops all.
    Gives one row: `path` below the catalog's folder, `rows`, `bytes`, `sha256`, and `counts` as JSON.
    """
    (chunk,) = pc.unique(rows[CHUNK]).to_pylist()
    table = rows.drop_columns([CHUNK])
    path = f"{DATASET}/part-{chunk:06d}.parquet"
    content = parquet_bytes(table)
    write_atomically(join(catalog_uri, path), content)
    return pa.table(
        {
            "path": [path],
            "rows": [len(table)],
            "bytes": [len(content)],
            "sha256": [hashlib.sha256(content).hexdigest()],
            "counts": [json.dumps(_counts(table))],
        }
    )


def publish_manifest(
    catalog_uri: str, entries: Iterable[Mapping[str, Any]], about: Mapping[str, Any]
) -> dict[str, Any]:
    """Write `manifest.json`, the step that makes the files a catalog, and return its content.

    Args:
        catalog_uri: the catalog's folder.
        entries: the rows of `write_catalog_file`, one per file.
        about: everything else that the manifest records: release, config, checkpoint, versions.
    """
    files = sorted(({**entry} for entry in entries), key=lambda entry: str(entry["path"]))
    totals: dict[str, Counter[str]] = {"status": Counter(), "class": Counter(), "flag": Counter(), "row": Counter()}
    for entry in files:
        for kind, counts in json.loads(entry.pop("counts")).items():
            totals[kind].update(counts)
    manifest = {
        "format": _FORMAT,
        "rows": sum(entry["rows"] for entry in files),
        "failed": totals["row"]["failed"],
        "flagged": totals["row"]["flagged"],
        "status_counts": dict(sorted(totals["status"].items())),
        "class_counts": dict(sorted(totals["class"].items())),
        "flag_counts": {flag.name: totals["flag"][str(flag.name)] for flag in ReviewFlag},
        **about,
        "files": files,
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
    """Remove a catalog, or what an interrupted publication left; the manifest first, which makes it one."""
    remove_tree(join(catalog_uri, MANIFEST))
    remove_tree(catalog_uri)


def write_json(uri: str, content: Mapping[str, Any]) -> None:
    """Write one JSON file in one atomic step."""
    write_atomically(uri, (json.dumps(content, indent=2) + "\n").encode())


def _counts(table: pa.Table) -> dict[str, dict[str, int]]:
    flags = table["review_flags"].to_numpy()
    return {
        "status": _value_counts(table["status"]),
        "class": _value_counts(table["predicted_class"].drop_null()),
        "flag": {str(flag.name): int(((flags & flag) != 0).sum()) for flag in ReviewFlag},
        "row": {"failed": table["predicted_class"].null_count, "flagged": int((flags != 0).sum())},
    }


def _value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column.cast(pa.string())).to_pylist()}
