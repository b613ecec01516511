"""Publication: the parts of a release become its catalog, in two passes over the rows.

::

    parts ─> sort_parts ─> runs ┬─> find_repeated ─> hashes ┐
                                └────────────────> write_share ─> files ─> HATS metadata ─> manifest.json

The first pass (see `sorting`) sorts the rows by their place on the sky into runs, and counts: rows per cell of the
sky, statuses, image hashes. From the counts alone the driver cuts the sky into tiles. The second pass reads the runs a
share of the sky at a time, and writes a file for each tile.

What a task holds does not grow with the survey: some three times a run (a million rows) in the first pass, and three
times a share (`max_rows`) in the second. The driver holds the histogram (109 MB at most, and a third of that to cut
it), the footers of the files (30 KB for a million rows), and the hashes of repeated images. Those are counted in ranges
of 8 million, from runs of (hash, count) that the first pass sorts too: a billion hashes never meet in one place. The
runs need as much room again as the parts, until the catalog is published.

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
from galaxy_batch.catalog.files import CatalogFileHeader, file_path, write_catalog_file, write_metadata_file
from galaxy_batch.catalog.layout import publish_manifest, unpublish
from galaxy_batch.catalog.sort_parts import HASH, KEY, PartTotals, Places, TaskRunner
from galaxy_batch.config import ReviewConfig
from galaxy_batch.review.flags import flag_repeated_images, repeated_hashes
from galaxy_batch.sky.healpix import BASE_PIXELS, DEEPEST_TILE, Tile, coarser, cut
from galaxy_batch.storage.files import remove_tree
from galaxy_batch.storage.sorted_runs import all_at_once, consecutive_groups, read_between

__all__ = ["publish"]

logger = logging.getLogger(__name__)

_HASHES_AT_ONCE = 8_000_000
_LOWEST_HASH, _HIGHEST_HASH = -(2**63), 2**63 - 1


def publish(
    places: Places,
    survey: PartTotals,
    heading: CatalogFileHeader,
    about: Mapping[str, Any],
    review: ReviewConfig,
    max_rows: int,
    spread: TaskRunner,
) -> dict[str, Any]:
    """The second pass: runs become the files of a catalog, and `manifest.json`, written last, makes them one.

    What an interrupted publication left is removed first, and so is a catalog that is to be replaced.

    Args:
        places: where the runs are and the catalog goes.
        survey: what `sort_parts` gave.
        heading: columns, release and model.
        about: what `manifest.json` records beside the counts.
        review: the limit for REPEATED_IMAGE.
        max_rows: rows of a file, at most.
        spread: runs the tasks.

    Returns:
        The content of `manifest.json`.

    Raises:
        RuntimeError: rows were lost, doubled or changed on the way; nothing is published then.
    """
    unpublish(places.catalog_uri)
    repeated = _find_repeated(places, survey, review, spread)
    tiles = _named(cut(survey.histogram, max_rows))
    _warn_of_crowds(tiles.values(), max_rows)
    shares = consecutive_groups([tile.rows for tile in tiles.values()], max_rows)
    entries = [{"path": path, **dataclasses.asdict(tile)} for path, tile in tiles.items()]
    items = [{"tiles": entries[share.start : share.stop]} for share in shares]
    keywords = {"places": places, "runs": survey.runs, "heading": heading, "repeated": repeated}
    written = [
        {**entry, "ids": int(entry["ids"]), "counts": json.loads(entry["counts"])}
        for entry in spread(_write_share, items, keywords)
    ]
    _check(survey, tiles, written)
    metadata = [
        write_metadata_file(content, path, places.catalog_uri)
        for path, content in _metadata(survey, tiles, written, heading, max_rows, about).items()
    ]
    manifest = publish_manifest(places.catalog_uri, written, metadata, {**about, "max_rows": max_rows})
    remove_tree(places.exchange_uri)
    return manifest


def _find_repeated(
    places: Places, survey: PartTotals, review: ReviewConfig, spread: TaskRunner
) -> npt.NDArray[np.int64]:
    """The hashes of repeated images, sorted. Hashes are even over their range, and so are even shares of it."""
    shares = -(-survey.hashes // _HASHES_AT_ONCE)
    starts = [_LOWEST_HASH + share * 2**64 // shares for share in range(shares)]
    lasts = [start - 1 for start in starts[1:]] + [_HIGHEST_HASH]
    items = [{"low": low, "last": last} for low, last in zip(starts, lasts, strict=False)]
    found = spread(_repeated_between, items, {"places": places, "runs": survey.runs, "review": review})
    repeated = [np.frombuffer(share["repeated"], np.int64) for share in found]
    return np.sort(np.concatenate(repeated)) if repeated else np.empty(0, np.int64)


def _repeated_between(share: pa.Table, places: Places, runs: int, review: ReviewConfig) -> pa.Table:
    """A task: the hashes from `low` to `last` that stand in too many rows of all runs together."""
    (item,) = share.to_pylist()
    low, last = item["low"], item["last"]
    hashes = pa.concat_tables(all_at_once(lambda run: read_between(places.hashes(run), HASH, low, last), range(runs)))
    repeated = repeated_hashes(hashes[HASH].to_numpy(), hashes["rows"].to_numpy(), review)
    return pa.table({"repeated": pa.array([repeated.tobytes()], pa.large_binary())})


def _write_share(
    share: pa.Table, places: Places, runs: int, heading: CatalogFileHeader, repeated: npt.NDArray[np.int64]
) -> pa.Table:
    """A task of the second pass: the rows of neighbouring tiles, from all runs, become a file each."""
    (item,) = share.to_pylist()
    tiles = {entry.pop("path"): Tile(**entry) for entry in item["tiles"]}
    low, last = min(tile.first_key for tile in tiles.values()), max(tile.last_key for tile in tiles.values())
    rows = pa.concat_tables(all_at_once(lambda run: read_between(places.run(run), KEY, low, last), range(runs)))
    rows = rows.sort_by([(KEY, "ascending"), ("object_id", "ascending")])
    rows = flag_repeated_images(rows, repeated)
    keys = rows[KEY].to_numpy()
    entries = []
    for path, tile in tiles.items():
        begin, end = np.searchsorted(keys, tile.first_key, "left"), np.searchsorted(keys, tile.last_key, "right")
        within = rows.slice(begin, end - begin)
        entry = write_catalog_file(
            within if tile.on_sky else within.sort_by("object_id"), path, heading, places.catalog_uri
        )
        entries.append({**entry, "ids": str(entry["ids"]), "counts": json.dumps(entry["counts"])})
    return pa.Table.from_pylist(entries)


def _named(tiles: Sequence[Tile]) -> dict[str, Tile]:
    """Each tile under the path of its file; the shares of the rows without a position are numbered from 0.

    There is always such a share, if an empty one, so that a query of its folder finds a file.
    """
    on_sky = [tile for tile in tiles if tile.on_sky]
    nowhere = tiles[len(on_sky) :] or [Tile(0, BASE_PIXELS, 0)]
    return {file_path(tile, 0): tile for tile in on_sky} | {
        file_path(tile, number): tile for number, tile in enumerate(nowhere)
    }


def _warn_of_crowds(tiles: Iterable[Tile], max_rows: int) -> None:
    crowds = [tile.rows for tile in tiles if tile.rows > max_rows]
    if crowds:
        logger.warning(
            "%d pixels of order %d, the smallest that there are, hold more than max_rows = %d rows; the fullest %d",
            len(crowds), DEEPEST_TILE, max_rows, max(crowds),
        )  # fmt: skip


def _check(survey: PartTotals, tiles: Mapping[str, Tile], written: Sequence[Mapping[str, Any]]) -> None:
    """A row in is a row out: in each file, in all together, and by their ids."""
    wanted = {path: tile.rows for path, tile in tiles.items()}
    found = {entry["path"]: entry["rows"] for entry in written}
    wrong = sorted(path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path))
    if wrong or len(found) != len(written) or sum(found.values()) != survey.rows:
        raise RuntimeError(f"rows are lost or doubled in {', '.join(wrong[:5]) or 'the sum'}; nothing was published")
    if sum(entry["ids"] for entry in written) % 2**64 != survey.ids:
        raise RuntimeError("the files' ids are not those of the parts; nothing was published")


def _metadata(
    survey: PartTotals,
    tiles: Mapping[str, Tile],
    written: Sequence[Mapping[str, Any]],
    heading: CatalogFileHeader,
    max_rows: int,
    about: Mapping[str, Any],
) -> dict[str, bytes]:
    """The files of HATS, by path."""
    on_sky = {path: tile for path, tile in tiles.items() if tile.on_sky}
    footers = {entry["path"]: entry["footer"] for entry in written}
    kilobytes = -(-sum(entry["bytes"] for entry in written) // 1024)
    cells = coarser(survey.histogram, DEEPEST_TILE - hats.SKYMAP_ORDER)[: BASE_PIXELS << 2 * hats.SKYMAP_ORDER]
    provenance = {f"galaxy_batch_{key}": about[key] for key in ("model_id", "run_id", "fingerprint")}
    entries = hats.describe(heading.release, list(on_sky.values()), max_rows, kilobytes)
    schema = heading.schema_of()
    return {
        hats.PROPERTIES: hats.properties({**entries, "prov_progenitor": about["survey"], **provenance}),
        hats.PARTITIONS: hats.partition_info(on_sky.values()),
        hats.SKYMAP: hats.skymap(cells),
        hats.COMMON_METADATA: hats.common_metadata(schema),
        hats.METADATA: hats.dataset_metadata(schema, [(path, footers[path]) for path in on_sky]),
    }
