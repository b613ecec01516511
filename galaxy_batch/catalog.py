"""The published catalog: where everything is, and what makes files one that readers may see.

::

    <output_uri>/release=<name>/model=<checkpoint id>/
        parts/<fingerprint>/part-000000.parquet     one per chunk, written while the job runs
        earlier/<fingerprint>/                      answers of `reuse_from`, until the catalog is published
        exchange/<fingerprint>/                     sorted runs, only while the catalog is being published
        catalog/
            dataset/Norder=<k>/Dir=<d>/Npix=<p>.parquet     the rows of a patch of the sky: a HATS catalog, see hats.py
            without_position/part-000000.parquet            the rows that are nowhere on the sky; may be empty
            hats.properties, partition_info.csv, skymap.fits, dataset/_metadata, dataset/_common_metadata
            manifest.json                                   written last: without it there is no catalog
        runs/<run id>.json                          one per run: config, times, outcome
        report/index.html                           the page of the release; made again from the catalog at any time
"""

import dataclasses
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from galaxy_batch.errors import InputError
from galaxy_batch.ids import id_hashes, ids_checksum
from galaxy_batch.publishing.hats import tile_path
from galaxy_batch.publishing.votable import described, text_lengths
from galaxy_batch.rows import ReviewFlag
from galaxy_batch.sky.healpix import Tile
from galaxy_batch.storage.files import join, read_bytes, remove_tree, write_atomically

__all__ = [
    "FORMAT",
    "MANIFEST",
    "WITHOUT_POSITION",
    "Heading",
    "Layout",
    "file_path",
    "fingerprint",
    "publish_manifest",
    "read_manifest",
    "unpublish",
    "write_catalog_file",
    "write_json",
    "write_metadata_file",
]

MANIFEST = "manifest.json"
WITHOUT_POSITION = "without_position"
FORMAT = 2
"""Of parts, catalog and manifest.json; part of the fingerprint."""
_ROW_GROUP_ROWS = 65_536  # a cone search reads one or two of them


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


@dataclasses.dataclass(frozen=True)
class Heading:
    """What every file of a catalog says of itself."""

    schema: pa.Schema
    """Columns, with unit, UCD and description in the metadata of each field."""
    release: str
    model_id: str

    @property
    def columns(self) -> dict[str, str]:
        """Name and type of each column, as readers of the files see them: Parquet renames what is in a list."""
        sink = io.BytesIO()
        pq.write_metadata(self.schema, sink)
        return {column.name: str(column.type) for column in pq.read_schema(sink)}

    def schema_of(self, rows: pa.Table | None = None) -> pa.Schema:
        """The schema with the VOTable header that fits these rows; without rows, the header of the whole dataset."""
        title = f"Galaxy morphologies of release {self.release}, by checkpoint {self.model_id}"
        about = {"release": self.release, "model_id": self.model_id}
        return described(self.schema, title, about, text_lengths(rows) if rows is not None else {})


def file_path(tile: Tile, number: int) -> str:
    """Where the file of a tile is, below the catalog's folder.

    Args:
        tile: a pixel of the sky, or a share of the rows without a position.
        number: of the share among the shares.
    """
    return tile_path(tile.order, tile.pixel) if tile.on_sky else f"{WITHOUT_POSITION}/part-{number:06d}.parquet"


def write_catalog_file(rows: pa.Table, path: str, heading: Heading, catalog_uri: str) -> dict[str, Any]:
    """Write the rows of one tile, in their order, as one file of the catalog, in one atomic step.

    Reads the catalog's columns; drops what else there is.

    Returns:
        `path`, `rows`, `bytes`, `sha256`; `ids`, the checksum of the ids; `counts`; `footer`, the Parquet metadata.
    """
    schema = heading.schema_of(rows)
    table = pa.table([rows[field.name].cast(field.type) for field in schema], schema=schema)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=_ROW_GROUP_ROWS)
    content = sink.getvalue()
    write_atomically(join(catalog_uri, path), content)
    sink.seek(0)
    footer = io.BytesIO()
    pq.read_metadata(sink).write_metadata_file(footer)
    return {
        "path": path,
        "rows": len(table),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "ids": ids_checksum(id_hashes(table["object_id"])),
        "counts": _counts(table),
        "footer": footer.getvalue(),
    }


def write_metadata_file(content: bytes, path: str, catalog_uri: str) -> dict[str, Any]:
    """Write a file that says something of the others. Gives `path`, `bytes`, `sha256`."""
    write_atomically(join(catalog_uri, path), content)
    return {"path": path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


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
        "without_position": totals["flag"][str(ReviewFlag.NO_POSITION.name)],
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
