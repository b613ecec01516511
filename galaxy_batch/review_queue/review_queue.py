"""The making of a review queue, from the config to its folder.

::

    catalog ─> draw_rows ─> order ─> add_pictures ─> queue.parquet ─> queue.json ┬─> page
                                                                                 ├─> Zooniverse subject set ─> upload
                                                                                 └─> Label Studio tasks

The draw takes seconds, the pictures minutes. A run that was killed keeps its pictures: `unfinished.json` says of which
queue they are.
"""

import contextlib
import json
import logging
import shlex
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.catalog.manifest import CatalogManifest, require_manifest
from galaxy_batch.catalog.read_files import read_schema
from galaxy_batch.errors import InputError
from galaxy_batch.review_queue.attention import attention_maps, catalog_checkpoint
from galaxy_batch.review_queue.bundle import CHANGED, PICTURES, add_pictures
from galaxy_batch.review_queue.config import ReviewQueueConfig
from galaxy_batch.review_queue.draw import DrawnRows, draw_rows, id_keys
from galaxy_batch.review_queue.label_studio import write_tasks
from galaxy_batch.review_queue.page import PAGE, has_page, write_page
from galaxy_batch.review_queue.queue import (
    ReviewQueue,
    catalog_entry,
    queue_schema,
    queue_uri,
    read_queue,
    verdict_names,
    write_queue,
)
from galaxy_batch.review_queue.serve import check_servable
from galaxy_batch.review_queue.zooniverse import write_subject_set
from galaxy_batch.review_queue.zooniverse_upload import check_credentials, upload_subjects
from galaxy_batch.storage.files import check_writable, join, read_bytes, remove_tree, without_secrets, write_atomically

__all__ = ["make_queue"]

logger = logging.getLogger(__name__)

_ORDER = "_order"
_UNFINISHED = "unfinished.json"
_CATALOG_NAMES = ("release", "model_id", "run_id", "fingerprint")


def make_queue(config: ReviewQueueConfig) -> dict[str, Any]:
    """Draw the galaxies and write the queue; nothing to do where the same queue is there.

    Returns:
        `catalog_uri`, `queue_uri`, `page_uri`, `rows`, `pictures`, `seconds`; and, where asked for, `zooniverse`,
        `label_studio`, `upload`.

    Raises:
        InputError: there is no such catalog, nothing or too much is drawn, or another queue has this name.
    """
    started = time.monotonic()
    if config.upload is not None:
        check_credentials()
    manifest = require_manifest(config.catalog_uri)
    uri = queue_uri(config.catalog_uri, config.name)
    checkpoint = catalog_checkpoint(manifest, config.checkpoint_uri) if config.attention else None
    if config.serve:
        check_servable(uri)
    queue = present = _present_queue(config, manifest, uri)
    if queue is None:
        check_writable(uri)
        queue = _new_queue(config, manifest, uri)
        _begin(config, manifest, uri)
        queue = _with_pictures(queue, config, manifest)
        write_queue(queue)
        remove_tree(join(uri, _UNFINISHED))
    elif config.draws and queue.record["pictures"] < len(queue.rows):
        logger.info("the queue is there; fetching the %d missing pictures", len(queue.rows) - queue.record["pictures"])
        queue = _with_pictures(queue, config, manifest)
        write_queue(queue)
    else:
        logger.info("nothing to do: the queue is there")
    logger.info("%d galaxies to look at: %s", len(queue.rows), without_secrets(uri))
    if queue is not present or checkpoint or not has_page(queue):
        write_page(queue, attention_maps(queue, manifest, checkpoint) if checkpoint else None)
    logger.info(
        "open %s in a browser, export the verdicts, then: python -m jobs.import_verdicts %s --from verdicts.csv",
        *(shlex.quote(without_secrets(place)) for place in (join(uri, PAGE), config.catalog_uri)),
    )
    return {
        "catalog_uri": without_secrets(config.catalog_uri),
        "queue_uri": without_secrets(uri),
        "page_uri": without_secrets(join(uri, PAGE)),
        "rows": len(queue.rows),
        "pictures": queue.record["pictures"],
        **_for_others(queue, config),
        "seconds": round(time.monotonic() - started, 3),
    }


def _for_others(queue: ReviewQueue, config: ReviewQueueConfig) -> dict[str, Any]:
    """Write the queue for other people's tools; an entry of the summary for each that is asked for."""
    entries: dict[str, Any] = {}
    if config.zooniverse or config.upload is not None:
        entries["zooniverse"] = write_subject_set(queue)
    if config.label_studio:
        entries["label_studio"] = write_tasks(queue)
    if config.upload is not None:
        entries["upload"] = upload_subjects(queue, config.upload)
    return entries


def _present_queue(config: ReviewQueueConfig, manifest: CatalogManifest, uri: str) -> ReviewQueue | None:
    """The queue of this name, if it is there and is the one to make."""
    queue = read_queue(uri, "name")
    if queue is None and not config.draws:
        raise InputError("name", config.name, f"there is no queue {without_secrets(uri)}: give at least one draw")
    if queue is None:
        return None
    defaults = ReviewQueueConfig(config.catalog_uri, uniform=1).drawn_by  # of settings newer than the queue
    wanted, present = _origin(config, manifest), json.loads(json.dumps(defaults)) | _origin_of(queue.record)
    compared = wanted if config.draws else _CATALOG_NAMES
    differs = [name for name in compared if wanted[name] != present[name]]
    if differs:
        remedy = f"another queue has this name ({', '.join(differs)} differs), and verdicts may belong to it"
        raise InputError("name", config.name, f"{remedy}: choose another name")
    return queue


def _origin(config: ReviewQueueConfig, manifest: CatalogManifest) -> dict[str, Any]:
    """What decides the content of a queue, as its record has it."""
    record = {"settings": config.drawn_by, "catalog": catalog_entry(config.catalog_uri, manifest)}
    return _origin_of(json.loads(json.dumps(record)))


def _origin_of(record: dict[str, Any]) -> dict[str, Any]:
    return {**record.get("settings", {}), **{name: record.get("catalog", {}).get(name) for name in _CATALOG_NAMES}}


def _begin(config: ReviewQueueConfig, manifest: CatalogManifest, uri: str) -> None:
    """Keep the pictures of an unfinished run for the same queue, and remove others."""
    content = json.dumps(_origin(config, manifest), indent=2).encode()
    with contextlib.suppress(FileNotFoundError):
        if read_bytes(join(uri, _UNFINISHED)) == content:
            logger.info("going on with the unfinished queue")
            return
    remove_tree(join(uri, PICTURES))
    write_atomically(join(uri, _UNFINISHED), content)


def _with_pictures(queue: ReviewQueue, config: ReviewQueueConfig, manifest: CatalogManifest) -> ReviewQueue:
    """The queue with the pictures that can be had."""
    rows = add_pictures(queue.rows, queue.uri, config, manifest)
    missing = rows.filter(rows["picture"].is_null())
    if len(missing):
        examples = zip(missing["object_id"].to_pylist()[:3], missing["picture_error"].to_pylist(), strict=False)
        shown = "; ".join(f"{object_id}: {error}" for object_id, error in examples)
        logger.warning("%d of %d galaxies have no picture, e.g. %s", len(missing), len(rows), shown)
    changed = pc.sum(pc.equal(rows["picture_error"], CHANGED)).as_py() or 0
    if changed:
        logger.warning("the cutouts of %d galaxies have changed since the catalog was made", changed)
    return ReviewQueue(queue.uri, {**queue.record, "pictures": len(rows) - len(missing)}, rows)


def _new_queue(config: ReviewQueueConfig, manifest: CatalogManifest, uri: str) -> ReviewQueue:
    """The drawn galaxies in the order to look at, without pictures."""
    schema = read_schema(config.catalog_uri)
    wanted = queue_schema(schema.field("object_id").type, manifest.classes, manifest.has_image_uri)
    verdicts = verdict_names(manifest.classes)
    drawn = draw_rows(config, manifest, schema, [name for name in wanted.names if name in schema.names])
    rows = _in_order(drawn, config)
    rows = rows.append_column("position", pa.array(np.arange(1, len(rows) + 1, dtype=np.int32)))
    for name in ("picture", "picture_error"):
        rows = rows.append_column(name, pa.nulls(len(rows), pa.string()))
    rows = pa.table([rows[field.name].cast(field.type) for field in wanted], schema=wanted)
    record = {
        "name": config.name,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seed": config.seed,
        "catalog": catalog_entry(config.catalog_uri, manifest),
        "settings": config.drawn_by,
        "classes": list(manifest.classes),
        "verdicts": verdicts,
        "links": config.links,
        "draws": drawn.draws,
        "rows": len(rows),
        "pictures": 0,
    }
    return ReviewQueue(uri, record, rows)


def _in_order(drawn: DrawnRows, config: ReviewQueueConfig) -> pa.Table:
    """The drawn rows in the order to look at."""
    keys = pa.array(id_keys(drawn.rows["object_id"], "order", config.seed))
    rows = drawn.rows.append_column(_ORDER, keys)
    by = [(_ORDER, "ascending"), ("object_id", "ascending")]
    by = [("reason", "ascending"), *by] if config.order == "reason" else by
    return rows.take(pc.sort_indices(rows, sort_keys=by)).drop_columns([_ORDER])
