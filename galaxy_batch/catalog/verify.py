"""Verification of a published catalog, from its files alone.

One file is read at a time; what must be compared across files (ids, image hashes) is counted in a temporary folder of
about 40 bytes a row. So memory does not grow with the catalog, except for the footers in `dataset/_metadata`.
"""

import dataclasses
import io
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from galaxy_batch.catalog import hats
from galaxy_batch.catalog.counts import CatalogCounts, total_counts
from galaxy_batch.catalog.files import MetadataFile, RowFile
from galaxy_batch.catalog.manifest import MANIFEST, CatalogManifest, ManifestError, manifest_content, parse_manifest
from galaxy_batch.catalog.verify_collection import CollectionChecker
from galaxy_batch.catalog.verify_embeddings import embedding_problems
from galaxy_batch.catalog.verify_file import UNREADABLE, verify_file
from galaxy_batch.catalog.verify_metadata import listed_content, merged_metadata_problems, properties_problems
from galaxy_batch.catalog.verify_rows import CatalogContract
from galaxy_batch.errors import without_secrets
from galaxy_batch.ids import id_hashes
from galaxy_batch.rows import catalog_schema
from galaxy_batch.runtime.progress import with_progress
from galaxy_batch.sky.healpix import BASE_PIXELS, DEEPEST_TILE, Tile
from galaxy_batch.storage.disk_counter import DiskCounter
from galaxy_batch.storage.files import filesystem, join, read_bytes

__all__ = ["verify_catalog"]

_SHOWN = 5


def verify_catalog(catalog_uri: str) -> list[str]:
    """What is wrong with a published catalog: one sentence per problem, which names the file; empty when nothing is.

    Checks the size and checksum of every file; the rules, position and order of every row; ids and image hashes across
    files; all counts; that the HATS files, the VOTable headers and the embeddings agree with the rows; and that there
    is no other file. So do the margin cache and the index beside the catalog, unless all of it is absent, as in a copy
    of the catalog alone.

    Raises:
        InputError: the URI's scheme is unknown.
    """
    filesystem(catalog_uri)
    content = manifest_content(catalog_uri)
    if content is None:
        return [f"no {MANIFEST}: nothing is published at {without_secrets(catalog_uri)}"]
    try:
        manifest = parse_manifest(content)
    except ManifestError as error:
        return [f"{MANIFEST}: {problem}" for problem in error.problems]
    with (
        DiskCounter(manifest.rows) as ids,
        DiskCounter(manifest.rows) as images,
        CollectionChecker(catalog_uri, manifest) as beside,
    ):
        return _CatalogChecker(catalog_uri, manifest, ids, images, beside).problems()


class _CatalogChecker:
    """Reads each file of a catalog once, and compares the files with each other and with the manifest."""

    def __init__(
        self,
        catalog_uri: str,
        manifest: CatalogManifest,
        ids: DiskCounter,
        images: DiskCounter,
        beside: CollectionChecker,
    ) -> None:
        self.catalog_uri, self.manifest, self.ids, self.images = catalog_uri, manifest, ids, images
        self.beside = beside
        self.contract = CatalogContract.of(manifest)
        self.tiles: dict[str, Tile] = {}
        self.footers: dict[str, pq.FileMetaData] = {}
        self.counts = total_counts([])
        self.skymap = np.zeros(BASE_PIXELS << 2 * hats.SKYMAP_ORDER, np.int64)

    def problems(self) -> list[str]:
        """Everything that is wrong."""
        problems = list(self.check_schema())
        files = with_progress(self.manifest.files, "verifying", self.manifest.rows, lambda file: file.rows)
        for file in files:
            problems += [f"{file.path}: {problem}" for problem in self.check_file(file)]
        for path, file in self.manifest.embeddings.items():
            problems += [f"{file.path}: {problem}" for problem in self.check_embeddings(file, path)]
        problems += [f"{MANIFEST}: {problem}" for problem in self.check_counts()]
        problems += self.check_ids()
        problems += self.check_repeated_images()
        problems += self.check_tiles()
        for metadata_file in self.manifest.metadata_files:
            problems += [f"{metadata_file.path}: {problem}" for problem in self.check_metadata_file(metadata_file)]
        return problems + list(self.check_other_files()) + self.beside.problems()

    def check_schema(self) -> Iterator[str]:
        """The schema begins with the columns of a catalog of these classes and questions; the survey's follow."""
        schema = self.manifest.schema
        contract, id_type = self.contract, self.manifest.id_type
        own = catalog_schema(
            id_type, contract.classes, (), contract.questions, contract.concentrations, contract.image_uri
        )
        expected = {column.name: str(column.type) for column in own}
        if list(schema.items())[: len(expected)] != list(expected.items()):
            yield f"{MANIFEST}: the schema does not begin with the columns that a catalog has"

    def content(self, file: RowFile | MetadataFile, problems: list[str]) -> bytes | None:
        """A file's bytes, None where it is missing; adds a problem where size or checksum are not as listed."""
        return listed_content(self.catalog_uri, file, problems)

    def check_file(self, file: RowFile) -> list[str]:
        """One file of rows."""
        problems: list[str] = []
        content = self.content(file, problems)
        if content is None:
            return problems
        report = verify_file(content, file.path, self.manifest.schema, self.contract)
        problems += report.problems
        if report.footer is None:
            return problems
        if report.rows != file.rows:
            problems.append(f"has {report.rows} rows, not {file.rows}")
        pixel = hats.pixel_of(file.path)
        if pixel is not None:
            self.tiles[file.path], self.footers[file.path] = Tile(*pixel, report.rows), report.footer
        if report.rows > self.manifest.max_rows and (pixel is None or pixel[0] < DEEPEST_TILE):
            problems.append(f"has {report.rows} rows, more than max_rows = {self.manifest.max_rows}")
        self.counts = total_counts([self.counts, report.counts])
        for hashes in report.ids:
            self.ids.add(hashes)
        for images, marked in report.images:
            self.images.add(images, marked)
        np.add.at(self.skymap, report.sky, 1)
        self.beside.add_file(file.path, content)
        return problems

    def check_embeddings(self, file: RowFile, rows_path: str) -> list[str]:
        """The file of embeddings that belongs to a file of rows."""
        problems: list[str] = []
        content = self.content(file, problems)
        try:
            rows = read_bytes(join(self.catalog_uri, rows_path))
        except FileNotFoundError:
            return problems
        if content is not None:
            problems += embedding_problems(content, rows, self.manifest.embedding_size)
        return problems

    def check_counts(self) -> Iterator[str]:
        """The manifest's counts are those of the rows."""
        for name in (field.name for field in dataclasses.fields(CatalogCounts)):
            recorded, counted = getattr(self.manifest, name), getattr(self.counts, name)
            if isinstance(counted, int) and recorded != counted:
                yield f"{name} is {recorded}, the files have {counted}"
            elif isinstance(counted, dict) and _without_zeros(recorded) != _without_zeros(counted):
                yield f"{name} are not those of the files"
        if self.manifest.manifest_rows != self.manifest.rows:
            yield f"{self.manifest.manifest_rows} rows in the survey's manifest, {self.manifest.rows} here"
        if self.manifest.ids_checksum != self.counts.ids_checksum:
            yield "ids_checksum is not that of the files' ids"

    def check_ids(self) -> Iterator[str]:
        """No id is in more than one row. Where hashes of ids are equal, the ids themselves are read and compared."""
        suspected = self.ids.repeated()
        if not len(suspected):
            return
        times: Counter[object] = Counter()
        for file in self.manifest.files:
            content = self.content(file, [])
            try:
                ids = pq.read_table(io.BytesIO(content or b""), columns=["object_id"])["object_id"]
                times.update(ids.filter(pa.array(np.isin(id_hashes(ids), suspected))).to_pylist())
            except UNREADABLE:
                continue
        doubled = [str(object_id) for object_id, rows in times.items() if rows > 1]
        if doubled:
            yield f"{len(doubled)} ids are in more than one row: {', '.join(doubled[:_SHOWN])}"

    def check_repeated_images(self) -> Iterator[str]:
        """REPEATED_IMAGE is set in all rows of a hash that is in `min_repeats` rows, and in no others."""
        least = self.contract.limits.min_repeats
        hashes = rows = 0
        for _, counts, marked in self.images.counts():
            wrong = np.where(counts >= least, marked != counts, marked != 0)
            hashes, rows = hashes + int(wrong.sum()), rows + int(counts[wrong].sum())
        if hashes:
            yield f"REPEATED_IMAGE at odds with the image hashes of {rows} rows ({hashes}; min_repeats = {least})"

    def check_tiles(self) -> Iterator[str]:
        """No two files are for the same part of the sky."""
        ordered = sorted(self.tiles.items(), key=lambda item: (item[1].first_key, item[1].order))
        for (path, tile), (other, within) in pairwise(ordered):
            if within.first_key <= tile.last_key:
                yield f"{other}: its pixel lies within that of {path}"

    def check_metadata_file(self, file: MetadataFile) -> list[str]:
        """One of the HATS files."""
        problems: list[str] = []
        content = self.content(file, problems)
        if content is None:
            return problems
        tiles = sorted(self.tiles.values(), key=lambda tile: tile.first_key)
        try:
            if file.path == hats.PROPERTIES:
                problems += properties_problems(hats.read_properties(content), self.expected_properties(tiles))
            elif file.path == hats.PARTITIONS:
                if hats.read_partition_info(content) != tiles:
                    problems.append("its pixels or their rows are not those of the files")
            elif file.path == hats.SKYMAP:
                if not np.array_equal(hats.read_skymap(content), self.skymap):
                    problems.append("its counts are not those of the rows")
            else:
                footers = self.footers if file.path == hats.METADATA else {}
                metadata = pq.read_metadata(io.BytesIO(content))
                problems += merged_metadata_problems(metadata, self.manifest.schema, footers)
        except UNREADABLE as error:
            problems.append(f"cannot be read: {str(error).splitlines()[0]}")
        return problems

    def expected_properties(self, tiles: list[Tile]) -> dict[str, object]:
        """Each entry of `hats.properties` that follows from the files or the manifest."""
        manifest = self.manifest
        size = sum(file.bytes for file in manifest.files)
        expected = hats.describe(manifest.release, tiles, manifest.max_rows, size)
        return expected | {
            f"galaxy_batch_{name}": getattr(manifest, name) for name in ("model_id", "run_id", "fingerprint")
        }

    def check_other_files(self) -> Iterator[str]:
        """Files that the manifest does not list."""
        fs, root = filesystem(self.catalog_uri)
        fs.invalidate_cache()
        known = {MANIFEST, *(file.path for file in self.manifest.inside)}
        present = {path[len(root.rstrip("/")) + 1 :] for path in fs.find(root)}
        yield from (f"{path}: is not part of the catalog" for path in sorted(present - known))


def _without_zeros(counts: dict[str, int]) -> dict[str, int]:
    return {key: count for key, count in counts.items() if count}
