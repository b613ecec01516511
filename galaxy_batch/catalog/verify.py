"""A catalog checked against its promises, from its files alone.

One file is read at a time; what must be compared across files (ids, image hashes) is counted in a temporary folder of
some 20 bytes a row. So memory does not grow with the catalog, but for the footers in `dataset/_metadata`.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from types import NoneType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from galaxy_batch.catalog import hats
from galaxy_batch.catalog.files import WITHOUT_POSITION
from galaxy_batch.catalog.layout import FORMAT, MANIFEST, read_manifest
from galaxy_batch.catalog.verify_file import UNREADABLE, header_problems, inspect, schema_problem
from galaxy_batch.catalog.verify_rows import CatalogContract
from galaxy_batch.errors import InputError, without_secrets
from galaxy_batch.ids import id_hashes, ids_checksum
from galaxy_batch.rows import catalog_schema
from galaxy_batch.sky.healpix import BASE_PIXELS, DEEPEST_TILE, Tile
from galaxy_batch.storage.disk_counter import DiskCounter
from galaxy_batch.storage.files import filesystem, join, read_bytes

__all__ = ["verify_catalog"]

_ENTRIES: dict[str, Any] = {
    "rows": int, "failed": int, "flagged": int, "without_position": int, "manifest_rows": int, "max_rows": int,
    "status_counts": dict, "class_counts": dict, "flag_counts": dict, "ids_checksum": str, "release": str,
    "model_id": str, "run_id": str, "fingerprint": str, "classes": list, "min_confidence": (int, float),
    "max_unfamiliarity": (int, float, NoneType), "max_instability": (int, float, NoneType),
    "schema": dict, "config": dict, "files": list, "metadata_files": list,
}  # fmt: skip
_METADATA_FILES = {hats.PROPERTIES, hats.PARTITIONS, hats.SKYMAP, hats.METADATA, hats.COMMON_METADATA}
_MAY_DIFFER = ("hats_builder", "hats_creation_date")
_SHOWN = 5


def verify_catalog(catalog_uri: str) -> list[str]:
    """What is wrong with a published catalog: one sentence per problem, naming the file; empty when all is well.

    Checks the size and checksum of every file; the rules, place and order of every row; ids and image hashes across
    files; all counts; that the files of HATS and the VOTable headers agree with the rows; and that nothing else is
    there.

    Raises:
        InputError: the URI's scheme is unknown.
    """
    filesystem(catalog_uri)
    try:
        manifest = read_manifest(catalog_uri)
    except InputError as error:
        return [str(error)]
    if manifest is None:
        return [f"no {MANIFEST}: nothing is published at {without_secrets(catalog_uri)}"]
    damage = [f"{MANIFEST}: {problem}" for problem in _damage(manifest)]
    if damage:
        return damage
    with DiskCounter(manifest["rows"]) as ids, DiskCounter(manifest["rows"]) as images:
        return _CatalogChecker(catalog_uri, manifest, ids, images).problems()


def _damage(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Why the manifest cannot be taken for a promise."""
    if manifest.get("format") != FORMAT:
        yield f"its format is {manifest.get('format')}; this version verifies format {FORMAT}"
        return
    wrong = [name for name, kind in _ENTRIES.items() if name not in manifest or not isinstance(manifest[name], kind)]
    if wrong:
        yield f"{', '.join(wrong)}: missing, or not what it must be"
        return
    for listed, kinds in (("files", {"rows": int}), ("metadata_files", {})):
        wanted = {"path": str, "bytes": int, "sha256": str, **kinds}
        for entry in manifest[listed]:
            if not isinstance(entry, dict) or not all(isinstance(entry.get(key), wanted[key]) for key in wanted):
                yield f"an entry of {listed} lacks one of {', '.join(wanted)}"
                return
    try:
        CatalogContract.of(manifest)
    except (KeyError, TypeError, ValueError) as error:
        yield f"its config does not say how rows were flagged ({error})"
    paths = [entry["path"] for entry in manifest["files"]]
    yield from (f"{path} is listed {times} times" for path, times in Counter(paths).items() if times > 1)
    for number, path in enumerate(sorted(path for path in paths if hats.pixel_of(path) is None)):
        if path != f"{WITHOUT_POSITION}/part-{number:06d}.parquet":
            yield f"{path} is not where a file of rows belongs"
    if sorted(entry["path"] for entry in manifest["metadata_files"]) != sorted(_METADATA_FILES):
        yield f"metadata_files must be {', '.join(sorted(_METADATA_FILES))}"


class _CatalogChecker:
    """One walk over the files of a catalog, and what it finds."""

    def __init__(self, catalog_uri: str, manifest: Mapping[str, Any], ids: DiskCounter, images: DiskCounter) -> None:
        self.catalog_uri, self.manifest, self.ids, self.images = catalog_uri, manifest, ids, images
        self.promise = CatalogContract.of(manifest)
        self.tiles: dict[str, Tile] = {}
        self.footers: dict[str, pq.FileMetaData] = {}
        self.totals: Counter[str] = Counter()
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in ("status", "class", "flag")}
        self.ids_checksum = 0
        self.skymap = np.zeros(BASE_PIXELS << 2 * hats.SKYMAP_ORDER, np.int64)

    def problems(self) -> list[str]:
        """Everything that is wrong."""
        found = list(self.check_schema())
        for entry in self.manifest["files"]:
            found += [f"{entry['path']}: {problem}" for problem in self.check_file(entry)]
        found += [f"{MANIFEST}: {problem}" for problem in self.check_totals()]
        found += self.check_ids()
        found += self.check_repeated_images()
        found += self.check_tiles()
        for entry in self.manifest["metadata_files"]:
            found += [f"{entry['path']}: {problem}" for problem in self.check_metadata_file(entry)]
        return found + list(self.check_strays())

    def check_schema(self) -> Iterator[str]:
        """The columns that every catalog of these classes has, before those that the survey's manifest adds."""
        schema = self.manifest["schema"]
        id_type = pa.string() if schema.get("object_id") == "string" else pa.int64()
        wanted = {column.name: str(column.type) for column in catalog_schema(id_type, self.promise.classes)}
        if list(schema.items())[: len(wanted)] != list(wanted.items()):
            yield f"{MANIFEST}: the schema does not begin with the columns that a catalog has"

    def content(self, entry: Mapping[str, Any], problems: list[str]) -> bytes | None:
        """A file's bytes, whose size and checksum are as listed, or that is a problem."""
        try:
            content = read_bytes(join(self.catalog_uri, entry["path"]))
        except FileNotFoundError:
            problems.append("is missing")
            return None
        if len(content) != entry["bytes"]:
            problems.append(f"has {len(content)} bytes, not {entry['bytes']}")
        elif hashlib.sha256(content).hexdigest() != entry["sha256"]:
            problems.append("its content has changed (sha256)")
        return content

    def check_file(self, entry: Mapping[str, Any]) -> list[str]:
        """A file of rows."""
        problems: list[str] = []
        path, content = entry["path"], self.content(entry, problems)
        if content is None:
            return problems
        found = inspect(content, path, self.manifest["schema"], self.promise)
        problems += found.problems
        if found.footer is None:
            return problems
        if found.rows != entry["rows"]:
            problems.append(f"has {found.rows} rows, not {entry['rows']}")
        pixel = hats.pixel_of(path)
        if pixel is not None:
            self.tiles[path], self.footers[path] = Tile(*pixel, found.rows), found.footer
        if found.rows > self.manifest["max_rows"] and (pixel is None or pixel[0] < DEEPEST_TILE):
            problems.append(f"has {found.rows} rows, more than max_rows = {self.manifest['max_rows']}")
        self.totals.update(rows=found.rows, failed=found.failed, flagged=found.flagged)
        self.totals["without_position"] += 0 if pixel else found.rows
        for name, counts in found.counts.items():
            self.counts[name].update(counts)
        for hashes in found.ids:
            self.ids.add(hashes)
            self.ids_checksum = (self.ids_checksum + ids_checksum(hashes)) % 2**64
        for images, marked in found.images:
            self.images.add(images, marked)
        np.add.at(self.skymap, found.sky, 1)
        return problems

    def check_totals(self) -> Iterator[str]:
        """The manifest's counts against those of the files."""
        for name in ("rows", "failed", "flagged", "without_position"):
            if self.manifest[name] != self.totals[name]:
                yield f"{name} is {self.manifest[name]}, the files have {self.totals[name]}"
        for name, counts in self.counts.items():
            said = {key: count for key, count in self.manifest[f"{name}_counts"].items() if count != 0}
            if said != {key: count for key, count in counts.items() if count}:
                yield f"{name}_counts are not those of the files"
        if self.manifest["manifest_rows"] != self.manifest["rows"]:
            yield f"{self.manifest['manifest_rows']} rows in the survey's manifest, {self.manifest['rows']} here"
        if self.manifest["ids_checksum"] != f"{self.ids_checksum:016x}":
            yield "ids_checksum is not that of the files' ids"

    def check_ids(self) -> Iterator[str]:
        """Ids in more than one row; where hashes agree, the ids themselves are read again and compared."""
        suspected = self.ids.repeated()
        if not len(suspected):
            return
        seen: Counter[object] = Counter()
        for entry in self.manifest["files"]:
            content = self.content(entry, [])
            try:
                ids = pq.read_table(io.BytesIO(content or b""), columns=["object_id"])["object_id"]
                seen.update(ids.filter(pa.array(np.isin(id_hashes(ids), suspected))).to_pylist())
            except UNREADABLE:
                continue
        doubled = [str(value) for value, times in seen.items() if times > 1]
        if doubled:
            yield f"{len(doubled)} ids stand in more than one row: {', '.join(doubled[:_SHOWN])}"

    def check_repeated_images(self) -> Iterator[str]:
        """REPEATED_IMAGE on all rows of a hash that stands in `min_repeats` rows, and on no others."""
        least = self.promise.limits.min_repeats
        wrong = rows = 0
        for _, counts, marked in self.images.counts():
            broken = np.where(counts >= least, marked != counts, marked != 0)
            wrong, rows = wrong + int(broken.sum()), rows + int(counts[broken].sum())
        if wrong:
            yield f"REPEATED_IMAGE at odds with the image hashes of {rows} rows ({wrong} hashes, min_repeats = {least})"

    def check_tiles(self) -> Iterator[str]:
        """No two files for the same place."""
        ordered = sorted(self.tiles.items(), key=lambda item: (item[1].first_key, item[1].order))
        for (path, tile), (other, within) in pairwise(ordered):
            if within.first_key <= tile.last_key:
                yield f"{other}: its pixel lies within that of {path}"

    def check_metadata_file(self, entry: Mapping[str, Any]) -> list[str]:
        """A file that says something of the others."""
        problems: list[str] = []
        content = self.content(entry, problems)
        if content is None:
            return problems
        tiles = sorted(self.tiles.values(), key=lambda tile: tile.first_key)
        try:
            if entry["path"] == hats.PROPERTIES:
                problems += self.check_properties(hats.read_properties(content), tiles)
            elif entry["path"] == hats.PARTITIONS:
                if hats.read_partition_info(content) != tiles:
                    problems.append("its pixels or their rows are not those of the files")
            elif entry["path"] == hats.SKYMAP:
                if not np.array_equal(hats.read_skymap(content), self.skymap):
                    problems.append("its counts are not those of the rows")
            else:
                problems += self.check_merged_metadata(pq.read_metadata(io.BytesIO(content)), entry["path"])
        except UNREADABLE as error:
            problems.append(f"cannot be read: {str(error).splitlines()[0]}")
        return problems

    def check_properties(self, found: Mapping[str, str], tiles: list[Tile]) -> Iterator[str]:
        """Each entry that follows from the files or the manifest."""
        size = sum(entry["bytes"] for entry in self.manifest["files"])
        wanted = hats.describe(self.manifest["release"], tiles, self.manifest["max_rows"], -(-size // 1024))
        wanted |= {f"galaxy_batch_{name}": self.manifest[name] for name in ("model_id", "run_id", "fingerprint")}
        for key, value in wanted.items():
            if key not in found:
                yield f"{key} is missing"
            elif key not in _MAY_DIFFER and found[key] != str(value):
                yield f"{key} is {found[key]}, not {value}"

    def check_merged_metadata(self, found: pq.FileMetaData, path: str) -> Iterator[str]:
        """The schema, its header, and in `_metadata` every file's row groups, statistics and all."""
        schema = found.schema.to_arrow_schema()
        problem = schema_problem(schema, self.manifest["schema"])
        if problem:
            yield problem
            return
        yield from header_problems(schema)
        merged = _row_groups(found.row_group(number) for number in range(found.num_row_groups))
        wanted: dict[str, list[dict[str, Any]]] = {}
        if path == hats.METADATA:
            for name, footer in self.footers.items():
                groups = _row_groups(footer.row_group(number) for number in range(footer.num_row_groups))
                wanted |= {name.removeprefix(f"{hats.DATASET}/"): part for part in groups.values()}
        for name in sorted(merged.keys() | wanted.keys()):
            if merged.get(name) != wanted.get(name):
                yield f"its row groups of {name} are not those of the file"

    def check_strays(self) -> Iterator[str]:
        """Files that the manifest does not list."""
        fs, root = filesystem(self.catalog_uri)
        fs.invalidate_cache()
        known = {MANIFEST, *(e["path"] for listed in ("files", "metadata_files") for e in self.manifest[listed])}
        present = {path[len(root.rstrip("/")) + 1 :] for path in fs.find(root)}
        yield from (f"{path}: is not part of the catalog" for path in sorted(present - known))


def _row_groups(groups: Iterable[Any]) -> dict[str, list[dict[str, Any]]]:
    """Row groups by the path of their file, as plain values without that path."""
    found: dict[str, list[dict[str, Any]]] = {}
    for group in groups:
        plain = group.to_dict()
        paths = {column.pop("file_path") for column in plain["columns"]}
        found.setdefault(min(paths), []).append(plain)
    return found
