"""Publication of the margin cache and the index, from the rows that are written as files of the catalog.

::

    rows of some files ─> write_member_runs ┬─> rows in margins, by pixel ─> _write_margins ─> margin_10arcs
                                            └─> ids, by range ─────────────> _write_ids ────> index_object_id

`write_member_runs` is called by each task that writes files of the catalog, when it has their rows in memory. It writes
two sorted runs, as in `storage.sorted_runs`. Further tasks then read a range of all of them, and write a few files
each; they hold no more than `max_rows` rows, unless the margin of a single pixel has more, or four times as many ids.
Whatever was counted when the runs were written must be in the files.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from galaxy_batch.catalog import collection
from galaxy_batch.catalog.collection import COLLECTION, INDEX, CollectionFiles
from galaxy_batch.catalog.counts import CatalogCounts
from galaxy_batch.catalog.files import CatalogFileHeader, RowFile, write_catalog_file, write_metadata_file
from galaxy_batch.catalog.hats import properties
from galaxy_batch.catalog.id_index import index_path, index_rows, limits_of, range_of, write_index_file
from galaxy_batch.catalog.layout import Layout
from galaxy_batch.catalog.manifest import CatalogProvenance
from galaxy_batch.catalog.margin import SkyDivision, margin_rows
from galaxy_batch.catalog.sort_parts import KEY
from galaxy_batch.ids import id_hashes, ids_checksum
from galaxy_batch.rows import EMBEDDING
from galaxy_batch.runtime.progress import with_progress
from galaxy_batch.runtime.tasks import TaskRunner
from galaxy_batch.sky.healpix import Tile
from galaxy_batch.storage.sorted_runs import consecutive_groups, read_all_between, write_run

__all__ = ["CollectionPlan", "MemberCounts", "publish_collection", "write_member_runs"]

_PIXEL = "_margin_of"
"""Column by which runs of rows in margins are sorted: first key of the pixel in whose margin the row is."""
_RANGE = "_range"
"""Column by which runs of ids are sorted: number of the file."""


@dataclass(frozen=True)
class CollectionPlan:
    """What the tasks need to know of the margin cache and the index."""

    release: str
    margin_arcsec: float
    """0: no margin cache."""
    index: bool
    max_rows: int
    """Of a file of the catalog."""
    sky: SkyDivision
    limits: list[Any]
    """The first id of each file of the index but the first."""

    @classmethod
    def of(cls, provenance: CatalogProvenance, tiles: Iterable[Tile], sample: Sequence[Any]) -> "CollectionPlan":
        """The plan of a catalog.

        Args:
            provenance: of the catalog.
            tiles: of its files.
            sample: some of its ids.
        """
        on_sky = [tile for tile in tiles if tile.on_sky]
        limits = limits_of(sample, sum(tile.rows for tile in on_sky), provenance.max_rows)
        wanted = provenance.release, provenance.margin_arcsec, provenance.index
        return cls(*wanted, provenance.max_rows, SkyDivision(on_sky), limits)


@dataclass
class MemberCounts:
    """Rows that were written into the runs."""

    groups: int = 0
    """Number of runs of each kind."""
    margin: Counter[int] = field(default_factory=Counter)
    """By first key of the pixel in whose margin they are."""
    index: Counter[int] = field(default_factory=Counter)
    """By number of the file."""

    def add(self, counted: str) -> None:
        """Add what `write_member_runs` has counted; nothing where the text is empty."""
        if counted:
            counts = json.loads(counted)
            self.groups += 1
            self.margin.update({int(key): rows for key, rows in counts["margin"].items()})
            self.index.update({int(number): rows for number, rows in counts["index"].items()})


def write_member_runs(rows: pa.Table, tiles: Sequence[Tile], layout: Layout, group: int, plan: CollectionPlan) -> str:
    """Write the runs of one group of files, and say how many rows are in them, for `MemberCounts.add`.

    Args:
        rows: of all these files, sorted by their key.
        tiles: of the files.
        layout: where the runs go.
        group: number of the group.
        plan: of the collection.

    Reads the catalog's columns, `_key`.
    """
    counts: dict[str, dict[int, int]] = {"margin": {}, "index": {}}
    keys = rows[KEY].to_numpy()
    ends = {tile: np.searchsorted(keys, [tile.first_key, tile.last_key + 1]) for tile in tiles if tile.on_sky}
    rows = rows.drop_columns([name for name in (KEY, EMBEDDING) if name in rows.column_names])
    if plan.margin_arcsec:
        on_sky = keys[: max((int(end) for _, end in ends.values()), default=0)]
        places, pixels, _ = margin_rows(on_sky, plan.sky, plan.margin_arcsec)
        margin = rows.take(pa.array(places)).append_column(_PIXEL, pa.array(pixels))
        write_run(margin.sort_by(_PIXEL), _PIXEL, layout.margin_rows(group))
        counts["margin"] = _count(pixels)
    if plan.index:
        ids = [index_rows(rows.slice(start, end - start), tile) for tile, (start, end) in ends.items()]
        index = pa.concat_tables([index_rows(rows.slice(0, 0), Tile(0, 0, 0)), *ids]).sort_by("object_id")
        ranges = range_of(index["object_id"], plan.limits)
        write_run(index.append_column(_RANGE, pa.array(ranges)), _RANGE, layout.sorted_ids(group))
        counts["index"] = _count(ranges)
    return json.dumps(counts)


def publish_collection(
    layout: Layout,
    plan: CollectionPlan,
    counts: MemberCounts,
    on_sky: CatalogCounts,
    header: CatalogFileHeader,
    task_runner: TaskRunner,
) -> CollectionFiles:
    """Write the margin cache and the index from their runs, and `collection.properties` last.

    Args:
        layout: where the runs are and the files go.
        plan: of the collection.
        counts: of the rows in the runs.
        on_sky: counts of the files of the catalog on the sky.
        header: of the catalog's files.
        task_runner: runs the tasks.

    Raises:
        RuntimeError: rows were lost, doubled or changed on the way.
    """
    margin: list[RowFile] = []
    index: list[RowFile] = []
    others: dict[str, bytes] = {}
    if plan.margin_arcsec:
        margin, others = _publish_margin(layout, plan, counts, header, task_runner)
    if plan.index:
        id_type = header.schema.field("object_id").type
        index, of_index = _publish_index(layout, plan, counts, on_sky, id_type, task_runner)
        others |= of_index
    if others:
        others[COLLECTION] = properties(collection.collection_properties(plan), "HATS collection")
    written = [write_metadata_file(content, path, layout.root) for path, content in others.items()]
    return CollectionFiles(tuple(margin), tuple(index), tuple(sorted(written, key=lambda file: file.path)))


def _publish_margin(
    layout: Layout, plan: CollectionPlan, counts: MemberCounts, header: CatalogFileHeader, task_runner: TaskRunner
) -> tuple[list[RowFile], dict[str, bytes]]:
    """The files of the margin, and the content of those that describe them."""
    keys = np.array(sorted(counts.margin), np.int64)
    tiles = {}
    for key, order in zip(keys.tolist(), plan.sky.orders_at(keys).tolist(), strict=True):
        pixel = key >> 2 * (29 - order)
        tiles[collection.margin_path(plan.margin_arcsec, order, pixel)] = Tile(order, pixel, counts.margin[key])
    entries = [{"path": path, **asdict(tile)} for path, tile in tiles.items()]
    groups = consecutive_groups([tile.rows for tile in tiles.values()], plan.max_rows)
    items = [{"tiles": entries[group.start : group.stop]} for group in groups]
    rows = task_runner(_write_margins, items, {"layout": layout, "groups": counts.groups, "header": header})
    written = _written(rows, "publishing the margin cache", counts.margin.total())
    if {path: file.rows for path, (file, _) in written.items()} != {path: tile.rows for path, tile in tiles.items()}:
        raise RuntimeError("rows of the margin cache are lost or doubled; nothing was published")
    files = [file for file, _ in written.values()]
    size = sum(file.bytes for file in files)
    footers = [(path, written[path][1]) for path in tiles]
    contents = collection.margin_metadata(plan, list(tiles.values()), header.schema_of(), footers, size)
    return sorted(files, key=lambda file: file.path), contents


def _write_margins(group: pa.Table, layout: Layout, groups: int, header: CatalogFileHeader) -> pa.Table:
    """A task: the margins of neighbouring pixels."""
    (item,) = group.to_pylist()
    tiles = {entry.pop("path"): Tile(**entry) for entry in item["tiles"]}
    low, last = min(tile.first_key for tile in tiles.values()), max(tile.first_key for tile in tiles.values())
    rows = read_all_between([layout.margin_rows(number) for number in range(groups)], _PIXEL, low, last)
    rows = rows.sort_by([(_PIXEL, "ascending"), ("_healpix_29", "ascending"), ("object_id", "ascending")])
    keys = rows[_PIXEL].to_numpy()
    written = []
    for path, tile in tiles.items():
        begin, end = np.searchsorted(keys, [tile.first_key, tile.first_key + 1])
        file = write_catalog_file(rows.slice(begin, end - begin), path, header, layout.root)
        written.append({"file": json.dumps(asdict(file.file)), "rows": file.file.rows, "footer": file.footer})
    return pa.Table.from_pylist(written)


def _publish_index(
    layout: Layout,
    plan: CollectionPlan,
    counts: MemberCounts,
    on_sky: CatalogCounts,
    id_type: pa.DataType,
    task_runner: TaskRunner,
) -> tuple[list[RowFile], dict[str, bytes]]:
    """The files of the index, and the content of those that describe them."""
    numbers = sorted(counts.index) or [0]
    items = [{"range": number, "path": f"{INDEX}/{index_path(place)}"} for place, number in enumerate(numbers)]
    rows = list(task_runner(_write_ids, items, {"layout": layout, "groups": counts.groups}))
    written = _written(rows, "publishing the index", on_sky.rows)
    checksum = sum(int(row["ids_checksum"], 16) for row in rows) % 2**64
    if sum(file.rows for file, _ in written.values()) != on_sky.rows or f"{checksum:016x}" != on_sky.ids_checksum:
        raise RuntimeError("the ids of the index are not those of the catalog; nothing was published")
    footers = [(path, written[path][1]) for path in sorted(written)]
    contents = collection.index_metadata(plan, id_type, footers, on_sky.rows)
    return [written[path][0] for path in sorted(written)], contents


def _write_ids(item: pa.Table, layout: Layout, groups: int) -> pa.Table:
    """A task: one file of the index."""
    (entry,) = item.to_pylist()
    runs = [layout.sorted_ids(number) for number in range(groups)]
    rows = read_all_between(runs, _RANGE, entry["range"], entry["range"]).sort_by("object_id")
    file, footer = write_index_file(rows, entry["path"], layout.root)
    checksum = f"{ids_checksum(id_hashes(rows['object_id'])):016x}"
    row = {"file": json.dumps(asdict(file)), "rows": file.rows, "footer": footer, "ids_checksum": checksum}
    return pa.Table.from_pylist([row])


def _written(rows: Iterable[Mapping[str, Any]], step: str, total: int) -> dict[str, tuple[RowFile, bytes]]:
    """The files that tasks have written, with their Parquet metadata, by path."""
    done = with_progress(rows, step, total, lambda row: int(row["rows"]))
    files = [(RowFile(**json.loads(row["file"])), row["footer"]) for row in done]
    return {file.path: (file, footer) for file, footer in files}


def _count(values: npt.NDArray[np.int64]) -> dict[int, int]:
    """How often there is each value."""
    distinct, counts = np.unique(values, return_counts=True)
    return dict(zip(distinct.tolist(), counts.tolist(), strict=True))
