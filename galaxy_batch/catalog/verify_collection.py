"""The margin cache and the index beside a catalog, checked against the rows of the catalog.

Every row of the catalog's files says where it must be: in the margins of these pixels, and once in the index. Hashes of
these rows and of those that are there are counted on disk, and must occur once each. So memory does not grow with the
catalog; the disk holds 18 bytes per row of the index and of the margin cache.
"""

import io
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from galaxy_batch.catalog import hats
from galaxy_batch.catalog.collection import (
    COLLECTION,
    INDEX,
    collection_properties,
    collection_uri,
    index_properties,
    margin_folder,
    margin_path,
    margin_pixel_of,
    margin_properties,
)
from galaxy_batch.catalog.files import MetadataFile, RowFile
from galaxy_batch.catalog.id_index import index_rows, index_schema
from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.catalog.margin import SkyDivision, margin_rows
from galaxy_batch.catalog.verify_file import UNREADABLE, header_problems, schema_problem
from galaxy_batch.catalog.verify_metadata import (
    listed_content,
    merged_metadata_problems,
    properties_problems,
    row_group_problems,
)
from galaxy_batch.runtime.progress import with_progress
from galaxy_batch.sky.healpix import Tile
from galaxy_batch.storage.disk_counter import DiskCounter
from galaxy_batch.storage.files import filesystem, join

__all__ = ["CollectionChecker"]

logger = logging.getLogger(__name__)

Hashes = npt.NDArray[np.uint64]

_FACTOR = np.uint64(0x9E37_79B9_7F4A_7C15)


class CollectionChecker(AbstractContextManager["CollectionChecker"]):
    """Counts what the catalog's files need beside them, and compares it with what is there; of a context manager."""

    def __init__(self, catalog_uri: str, manifest: CatalogManifest) -> None:
        self.folder_uri, self.manifest = collection_uri(catalog_uri), manifest
        self.wanted = bool(manifest.collection_files) and not self._is_alone()
        tiles = [Tile(*pixel, file.rows) for file in manifest.files if (pixel := hats.pixel_of(file.path))]
        self.sky = SkyDivision(tiles)
        self.in_margin: Counter[str] = Counter()
        """Rows that the margin of each pixel must have, by path."""
        self.placed = 0
        """Rows on the sky."""
        self.footers: dict[str, pq.FileMetaData] = {}
        self.last_id: object = None
        with ExitStack() as counters:
            self.margin = counters.enter_context(DiskCounter(sum(file.rows for file in manifest.margin_files)))
            self.ids = counters.enter_context(DiskCounter(manifest.rows))
            self._counters = counters.pop_all()

    def __exit__(self, *exception: object) -> None:
        self._counters.close()

    def add_file(self, path: str, content: bytes) -> None:
        """Count what a file of the catalog needs; one that cannot be read, or is not on the sky, needs nothing."""
        pixel = hats.pixel_of(path)
        if not self.wanted or pixel is None:
            return
        try:
            parquet = pq.ParquetFile(io.BytesIO(content))
            for number in range(parquet.num_row_groups):
                placed = parquet.read_row_group(number, ["object_id", "_healpix_29"])
                if placed["object_id"].null_count or placed["_healpix_29"].null_count:
                    continue
                self.placed += len(placed)
                if self.manifest.index:
                    self.ids.add(_row_hashes(index_rows(placed, Tile(*pixel, len(placed)))))
                if self.manifest.margin_arcsec:
                    self._add_margin(parquet, number, placed["_healpix_29"].to_numpy())
        except (*UNREADABLE, KeyError):
            return  # said of the file itself

    def _add_margin(self, parquet: pq.ParquetFile, group: int, keys: npt.NDArray[np.int64]) -> None:
        """Count the rows of a row group that are in margins."""
        places, pixels, orders = margin_rows(keys, self.sky, self.manifest.margin_arcsec)
        if not len(places):
            return
        hashes = _row_hashes(parquet.read_row_group(group).take(pa.array(places)))
        self.margin.add(_mixed(hashes, pixels))
        for (pixel, order), rows in Counter(zip(pixels.tolist(), orders.tolist(), strict=True)).items():
            self.in_margin[margin_path(self.manifest.margin_arcsec, order, pixel >> 2 * (29 - order))] += rows

    def problems(self) -> list[str]:
        """Everything that is wrong beside the catalog."""
        if not self.wanted:
            return []
        manifest = self.manifest
        problems = [f"{path}: {problem}" for path, problem in self._check_margin_list()]
        checks: tuple[tuple[tuple[RowFile, ...], str, Callable[[pa.Table, str], Iterable[str]]], ...] = (
            (manifest.margin_files, "verifying the margin cache", self._check_margin_rows),
            (manifest.index_files, "verifying the index", self._check_index_rows),
        )
        for files, step, check in checks:
            for file in with_progress(files, step, sum(file.rows for file in files), lambda file: file.rows):
                problems += [f"{file.path}: {problem}" for problem in self._check_file(file, check)]
        if manifest.margin_arcsec:
            problems += _differences(self.margin, margin_folder(manifest.margin_arcsec))
        if manifest.index:
            problems += _differences(self.ids, INDEX)
        for metadata_file in manifest.collection_files:
            problems += [f"{metadata_file.path}: {problem}" for problem in self._check_metadata(metadata_file)]
        return problems + list(self._check_other_files())

    def _check_margin_list(self) -> Iterator[tuple[str, str]]:
        """Each pixel has the margin that the rows of the catalog make."""
        rows = {file.path: file.rows for file in self.manifest.margin_files}
        for path in sorted(rows.keys() | self.in_margin.keys()):
            if rows.get(path, 0) != self.in_margin[path]:
                yield (
                    path,
                    f"{rows.get(path, 0)} rows are listed, the catalog has {self.in_margin[path]} in this margin",
                )

    def _check_file(self, file: RowFile, check: Callable[[pa.Table, str], Iterable[str]]) -> list[str]:
        """A file of the margin cache or the index."""
        problems: list[str] = []
        content = listed_content(self.folder_uri, file, problems)
        if content is None:
            return problems
        of_index = file.path.startswith(f"{INDEX}/")
        try:
            parquet = pq.ParquetFile(io.BytesIO(content))
            schema = parquet.schema_arrow
            problem = self._index_schema_problem(schema) if of_index else schema_problem(schema, self.manifest.schema)
            if problem:
                return [*problems, problem]
            problems += [] if of_index else header_problems(schema)
            self.footers[file.path] = parquet.metadata
            if parquet.metadata.num_rows != file.rows:
                problems.append(f"has {parquet.metadata.num_rows} rows, not {file.rows}")
            for number in range(parquet.num_row_groups):
                problems += check(parquet.read_row_group(number), file.path)
        except UNREADABLE as error:
            problems.append(f"cannot be read as Parquet: {str(error).splitlines()[0]}")
        return list(dict.fromkeys(problems))

    def _index_schema_problem(self, schema: pa.Schema) -> str | None:
        expected = index_schema(self.manifest.id_type)
        return None if schema.equals(expected) else f"its columns are not {', '.join(expected.names)} of the index"

    def _check_margin_rows(self, rows: pa.Table, path: str) -> Iterator[str]:
        """Count the rows of a margin, and check their order."""
        if not len(rows):
            return
        if rows["_healpix_29"].null_count or rows["object_id"].null_count:
            yield "has rows without a position or an id"
            return
        pixel = margin_pixel_of(path)
        assert pixel is not None  # the manifest was checked
        first = np.full(len(rows), Tile(*pixel, 0).first_key)
        self.margin.add(_mixed(_row_hashes(rows), first), np.ones(len(rows), np.bool_))
        positions = rows["_healpix_29"].to_numpy()
        ascending = _ascending(rows["object_id"])
        if (positions[1:] < positions[:-1]).any() or (~ascending & (positions[1:] == positions[:-1])).any():
            yield "its rows are not in the order of _healpix_29, object_id"

    def _check_index_rows(self, rows: pa.Table, _: str) -> Iterator[str]:
        """Count the rows of the index, and check their order, also across files."""
        if not len(rows):
            return
        if any(column.null_count for column in rows.columns):
            yield "has nulls"
            return
        self.ids.add(_row_hashes(rows), np.ones(len(rows), np.bool_))
        ids = rows["object_id"].combine_chunks()
        first = pa.array([] if self.last_id is None else [self.last_id], ids.type)
        if not _ascending(pa.chunked_array([pa.concat_arrays([first, ids])])).all():
            yield "its ids are not in ascending order, or not behind those of the files before"
        self.last_id = ids[-1].as_py()

    def _check_metadata(self, file: MetadataFile) -> list[str]:
        """One of the files that describe the margin cache, the index or the collection."""
        problems: list[str] = []
        content = listed_content(self.folder_uri, file, problems)
        if content is None:
            return problems
        folder, _, path = file.path.partition("/")
        try:
            if file.path == COLLECTION or path == hats.PROPERTIES:
                problems += properties_problems(hats.read_properties(content), self._expected_properties(file.path))
            elif path == hats.PARTITIONS:
                if hats.read_partition_info(content) != self._margin_tiles():
                    problems.append("its pixels or their rows are not those of the files")
            else:
                problems += self._check_merged(pq.read_metadata(io.BytesIO(content)), folder, path)
        except UNREADABLE as error:
            problems.append(f"cannot be read: {str(error).splitlines()[0]}")
        return problems

    def _expected_properties(self, path: str) -> dict[str, object]:
        manifest = self.manifest
        if path == COLLECTION:
            return collection_properties(manifest)
        if path.startswith(f"{INDEX}/"):
            return index_properties(manifest, self.placed)
        size = sum(file.bytes for file in manifest.margin_files)
        return margin_properties(manifest, self._margin_tiles(), size)

    def _check_merged(self, metadata: pq.FileMetaData, folder: str, path: str) -> Iterator[str]:
        """`_metadata` or `_common_metadata` of a folder."""
        files = self.footers.items() if path == hats.METADATA else ()
        footers = {name.removeprefix(f"{folder}/"): footer for name, footer in files if name.startswith(f"{folder}/")}
        if folder != INDEX:
            yield from merged_metadata_problems(metadata, self.manifest.schema, footers)
            return
        problem = self._index_schema_problem(metadata.schema.to_arrow_schema())
        yield from [problem] if problem else row_group_problems(metadata, footers)

    def _margin_tiles(self) -> list[Tile]:
        """Pixels with a margin, in the order of the sky."""
        tiles = [
            Tile(*pixel, file.rows) for file in self.manifest.margin_files if (pixel := margin_pixel_of(file.path))
        ]
        return sorted(tiles, key=lambda tile: tile.first_key)

    def _check_other_files(self) -> Iterator[str]:
        """Files in the folders of the margin cache and the index that the manifest does not list."""
        known = {file.path for file in self.manifest.beside.all}
        yield from (f"{path}: is not part of the collection" for path in sorted(self._present() - known))

    def _present(self) -> set[str]:
        """Paths of the files of the collection that are there."""
        fs, root = filesystem(self.folder_uri)
        fs.invalidate_cache()
        root = root.rstrip("/")
        present: set[str] = {COLLECTION} if fs.exists(join(root, COLLECTION)) else set()
        for folder in {file.path.partition("/")[0] for file in self.manifest.collection_files} - {COLLECTION}:
            present |= {path[len(root) + 1 :] for path in fs.find(join(root, folder))}
        return present

    def _is_alone(self) -> bool:
        """Whether nothing of the collection is there: a copy of the catalog alone."""
        if self._present():
            return False
        logger.info("the margin cache and the index are not beside this catalog; it is verified without them")
        return True


def _differences(counter: DiskCounter, folder: str) -> Iterator[str]:
    """Rows that are not in the folder, or should not be."""
    missing = unknown = doubled = 0
    for _, counts, present in counter.counts():
        expected = counts - present
        missing += int((expected - present).clip(0).sum())
        unknown += int(present[expected == 0].sum())
        doubled += int((present - expected)[expected > 0].clip(0).sum())
    if missing:
        yield f"{folder}: {missing} rows of the catalog are missing in it"
    if unknown:
        yield f"{folder}: {unknown} rows in it are not rows of the catalog, or belong elsewhere"
    if doubled:
        yield f"{folder}: {doubled} rows are in it more than once"


def _ascending(ids: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Whether each id but the first is greater than the one before; ``(N - 1,)``."""
    array = ids.combine_chunks()
    return np.asarray(pc.less(array[:-1], array[1:]).to_numpy(zero_copy_only=False), np.bool_)


def _row_hashes(rows: pa.Table) -> Hashes:
    """A hash of all values of each row, ``(N,)``; null and every value have different ones."""
    hashes = np.zeros(len(rows), np.uint64)
    for column in rows.columns:
        hashes = (hashes ^ _column_hashes(column)) * _FACTOR
        hashes ^= hashes >> np.uint64(29)
    return hashes


def _column_hashes(column: pa.ChunkedArray) -> Hashes:
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        hashes = pd.util.hash_array(pc.fill_null(column, pa.scalar(0, column.type)).to_numpy())
        return np.where(column.is_null().to_numpy(), _FACTOR, hashes)
    try:
        texts = pc.fill_null(column.cast(pa.string()), "\0null").to_numpy()
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # lists, structs, bytes
        texts = np.array([repr(value) for value in column.to_pylist()], object)
    return pd.util.hash_array(np.asarray(texts, object))


def _mixed(hashes: Hashes, pixels: npt.NDArray[np.int64]) -> Hashes:
    """Hashes of rows and of the pixels in whose margins they are."""
    return pd.util.hash_array(hashes ^ pd.util.hash_array(pixels.astype(np.int64)))
