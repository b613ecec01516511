"""Publication: the parts of a release become its catalog, in two passes over the rows.

::

    parts ─> sort_parts ─> runs ┬─> _find_repeated ─> hashes ┐
                                └─────────────────> _write_tiles ┬─> files ─> HATS metadata ───────> manifest.json
                                                                 └─> publish_collection ─> files beside ┘

The first pass, `sort_parts`, sorts the rows by their position on the sky into runs, and counts: rows per cell of the
sky, statuses, image hashes. From the counts alone the driver cuts the sky into tiles. The second pass, `publish`,
reads the runs a group of neighbouring tiles at a time, and writes one file per tile, and beside it its embeddings.
From the same rows it writes runs of what the margin cache and the index need, which `publish_collection` merges.

The memory of a task does not grow with the survey: about three times a run (a million rows) in the first pass, and
three times `max_rows` in the second. The driver holds the histogram (109 MB at most, and a third more while it is cut),
the footers of the files (30 KB per million rows), and the hashes of repeated images. These are counted in ranges of 8
million, from runs of (hash, count) that the first pass has sorted. Until the catalog is published, the runs take as
much storage as the parts.

Two things are checked before `manifest.json` is written: each tile has the rows that were counted for it, and the files
together have as many rows, and the same ids, as the parts.
"""

import dataclasses
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from galaxy_batch.catalog import hats
from galaxy_batch.catalog.counts import CatalogCounts, total_counts
from galaxy_batch.catalog.embedding_files import write_embedding_file
from galaxy_batch.catalog.files import (
    CatalogFileHeader,
    RowFile,
    WrittenFile,
    file_path,
    write_catalog_file,
    write_metadata_file,
)
from galaxy_batch.catalog.layout import Layout
from galaxy_batch.catalog.manifest import CatalogManifest, CatalogProvenance, publish_manifest, unpublish
from galaxy_batch.catalog.publish_collection import CollectionPlan, MemberCounts, publish_collection, write_member_runs
from galaxy_batch.catalog.sort_parts import HASH, KEY, PartTotals
from galaxy_batch.config import ReviewConfig
from galaxy_batch.review.flags import flag_repeated_images, repeated_hashes
from galaxy_batch.rows import EMBEDDING
from galaxy_batch.runtime.progress import with_progress
from galaxy_batch.runtime.tasks import TaskRunner
from galaxy_batch.sky.healpix import BASE_PIXELS, DEEPEST_TILE, Tile, coarser, cut
from galaxy_batch.storage.files import remove_temporary_folder
from galaxy_batch.storage.sorted_runs import consecutive_groups, read_all_between

__all__ = ["publish"]

logger = logging.getLogger(__name__)

_HASHES_AT_ONCE = 8_000_000
_LOWEST_HASH, _HIGHEST_HASH = -(2**63), 2**63 - 1


def publish(
    layout: Layout,
    totals: PartTotals,
    header: CatalogFileHeader,
    provenance: CatalogProvenance,
    review: ReviewConfig,
    task_runner: TaskRunner,
) -> CatalogManifest:
    """Write the files of the catalog from the sorted runs, and `manifest.json` last.

    First removes the files of an interrupted publication, or the catalog that is to be replaced.

    Args:
        layout: where the runs are and the catalog goes.
        totals: what `sort_parts` counted.
        header: columns, release and model.
        provenance: what the catalog was made from; its `max_rows` limits the rows of a file.
        review: the limit of REPEATED_IMAGE.
        task_runner: runs the tasks.

    Raises:
        RuntimeError: rows were lost, doubled or changed on the way; nothing is published then.
    """
    unpublish(layout.catalog)
    repeated = _find_repeated(layout, totals, review, task_runner)
    tiles = _tiles_by_path(cut(totals.histogram, provenance.max_rows))
    _warn_of_large_tiles(tiles.values(), provenance.max_rows)
    groups = consecutive_groups([tile.rows for tile in tiles.values()], provenance.max_rows)
    entries = [{"path": path, **dataclasses.asdict(tile)} for path, tile in tiles.items()]
    items = [{"group": number, "tiles": entries[group.start : group.stop]} for number, group in enumerate(groups)]
    plan = CollectionPlan.of(provenance, tiles.values(), totals.sampled_ids)
    keywords = {"layout": layout, "runs": totals.runs, "header": header, "repeated": repeated, "plan": plan}
    written, members = [], MemberCounts()
    rows = task_runner(_write_tiles, items, keywords)
    for row in with_progress(rows, "publishing", totals.counts.rows, lambda row: int(row["rows"])):
        written.append(_from_row(row))
        members.add(row["members"])
    _check_rows(totals, tiles, written)
    metadata_files = [
        write_metadata_file(content, path, layout.catalog)
        for path, content in _metadata(totals, tiles, written, header, provenance).items()
    ]
    on_sky = total_counts(file.counts for file in written if tiles[file.file.path].on_sky)
    beside = publish_collection(layout, plan, members, on_sky, header, task_runner)
    manifest = publish_manifest(layout.catalog, written, metadata_files, provenance, beside)
    remove_temporary_folder(layout.sorted_runs)
    return manifest


def _find_repeated(
    layout: Layout, totals: PartTotals, review: ReviewConfig, task_runner: TaskRunner
) -> npt.NDArray[np.int64]:
    """The hashes of repeated images, sorted. Hashes are uniform, so equal ranges hold about equally many of them."""
    ranges = -(-totals.hashes // _HASHES_AT_ONCE)
    starts = [_LOWEST_HASH + number * 2**64 // ranges for number in range(ranges)]
    lasts = [start - 1 for start in starts[1:]] + [_HIGHEST_HASH]
    items = [{"low": low, "last": last} for low, last in zip(starts, lasts, strict=False)]
    rows = task_runner(_repeated_between, items, {"layout": layout, "runs": totals.runs, "review": review})
    repeated = [np.frombuffer(row["repeated"], np.int64) for row in rows]
    return np.sort(np.concatenate(repeated)) if repeated else np.empty(0, np.int64)


def _repeated_between(hash_range: pa.Table, layout: Layout, runs: int, review: ReviewConfig) -> pa.Table:
    """A task: the hashes from `low` to `last` that are those of too many rows, of all runs together."""
    (item,) = hash_range.to_pylist()
    hashes = read_all_between([layout.sorted_hashes(run) for run in range(runs)], HASH, item["low"], item["last"])
    repeated = repeated_hashes(hashes[HASH].to_numpy(), hashes["rows"].to_numpy(), review)
    return pa.table({"repeated": pa.array([repeated.tobytes()], pa.large_binary())})


def _write_tiles(
    group: pa.Table,
    layout: Layout,
    runs: int,
    header: CatalogFileHeader,
    repeated: npt.NDArray[np.int64],
    plan: CollectionPlan,
) -> pa.Table:
    """A task of the second pass: read the rows of neighbouring tiles from all runs, and write one file per tile.

    It also writes the runs of the margin cache and of the index; what is in them is said in the row of the last file.
    """
    (item,) = group.to_pylist()
    tiles = {entry.pop("path"): Tile(**entry) for entry in item["tiles"]}
    low, last = min(tile.first_key for tile in tiles.values()), max(tile.last_key for tile in tiles.values())
    rows = read_all_between([layout.sorted_rows(run) for run in range(runs)], KEY, low, last)
    rows = rows.sort_by([(KEY, "ascending"), ("object_id", "ascending")])
    rows = flag_repeated_images(rows, repeated)
    keys = rows[KEY].to_numpy()
    written = []
    for path, tile in tiles.items():
        begin, end = np.searchsorted(keys, tile.first_key, "left"), np.searchsorted(keys, tile.last_key, "right")
        of_tile = rows.slice(begin, end - begin)
        of_tile = of_tile if tile.on_sky else of_tile.sort_by("object_id")
        file = write_catalog_file(of_tile, path, header, layout.catalog)
        if EMBEDDING in of_tile.column_names:
            file = dataclasses.replace(file, embeddings=write_embedding_file(of_tile, path, layout.catalog))
        written.append({**_as_row(file), "members": ""})
    written[-1]["members"] = write_member_runs(rows, list(tiles.values()), layout, item["group"], plan)
    return pa.Table.from_pylist(written)


def _as_row(file: WrittenFile) -> dict[str, str | bytes | int]:
    """What a task says of a file, as a row of its table."""
    return {
        "rows": file.file.rows,
        "file": json.dumps(dataclasses.asdict(file.file)),
        "counts": json.dumps(dataclasses.asdict(file.counts)),
        "footer": file.footer,
        "embeddings": json.dumps(file.embeddings and dataclasses.asdict(file.embeddings)),
    }


def _from_row(row: Mapping[str, Any]) -> WrittenFile:
    embeddings = json.loads(row["embeddings"])
    return WrittenFile(
        RowFile(**json.loads(row["file"])),
        CatalogCounts(**json.loads(row["counts"])),
        row["footer"],
        RowFile(**embeddings) if embeddings else None,
    )


def _tiles_by_path(tiles: Sequence[Tile]) -> dict[str, Tile]:
    """Each tile by the path of its file; the shares of the rows without a position are numbered from 0.

    There is always such a share, possibly empty: a query of its folder fails where there is no file.
    """
    on_sky = [tile for tile in tiles if tile.on_sky]
    without_position = tiles[len(on_sky) :] or [Tile(0, BASE_PIXELS, 0)]
    return {file_path(tile, 0): tile for tile in on_sky} | {
        file_path(tile, number): tile for number, tile in enumerate(without_position)
    }


def _warn_of_large_tiles(tiles: Iterable[Tile], max_rows: int) -> None:
    large = [tile.rows for tile in tiles if tile.rows > max_rows]
    if large:
        logger.warning(
            "%d pixels of order %d, the smallest tiles, have more than max_rows = %d rows; the largest has %d",
            len(large), DEEPEST_TILE, max_rows, max(large),
        )  # fmt: skip


def _check_rows(totals: PartTotals, tiles: Mapping[str, Tile], written: Sequence[WrittenFile]) -> None:
    """Every row is in one file: the files have the counted rows, and together the ids of the parts."""
    expected = {path: tile.rows for path, tile in tiles.items()}
    rows = {file.file.path: file.file.rows for file in written}
    wrong = sorted(path for path in expected.keys() | rows.keys() if expected.get(path) != rows.get(path))
    counts = total_counts(file.counts for file in written)
    if wrong or len(rows) != len(written) or counts.rows != totals.counts.rows:
        raise RuntimeError(f"rows are lost or doubled in {', '.join(wrong[:5]) or 'the sum'}; nothing was published")
    if counts.ids_checksum != totals.counts.ids_checksum:
        raise RuntimeError("the files' ids are not those of the parts; nothing was published")


def _metadata(
    totals: PartTotals,
    tiles: Mapping[str, Tile],
    written: Sequence[WrittenFile],
    header: CatalogFileHeader,
    provenance: CatalogProvenance,
) -> dict[str, bytes]:
    """The content of the HATS files, by path."""
    on_sky = {path: tile for path, tile in tiles.items() if tile.on_sky}
    footers = {file.file.path: file.footer for file in written}
    size = sum(file.file.bytes for file in written)
    cells = coarser(totals.histogram, DEEPEST_TILE - hats.SKYMAP_ORDER)[: BASE_PIXELS << 2 * hats.SKYMAP_ORDER]
    properties = {
        **hats.describe(header.release, list(on_sky.values()), provenance.max_rows, size),
        "prov_progenitor": provenance.survey,
        "galaxy_batch_model_id": provenance.model_id,
        "galaxy_batch_run_id": provenance.run_id,
        "galaxy_batch_fingerprint": provenance.fingerprint,
    }
    schema = header.schema_of()
    return {
        hats.PROPERTIES: hats.properties(properties),
        hats.PARTITIONS: hats.partition_info(on_sky.values()),
        hats.SKYMAP: hats.skymap(cells),
        hats.COMMON_METADATA: hats.common_metadata(schema),
        **hats.optional_metadata(schema, [(path, footers[path]) for path in on_sky]),
    }
