"""The making of a review queue, from the config to its folder.

::

    catalog ─> draw_rows ─> order ─> queue.parquet ─> queue.json
"""

import logging
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from galaxy_batch.catalog import hats
from galaxy_batch.catalog.manifest import CatalogManifest, require_manifest
from galaxy_batch.errors import InputError
from galaxy_batch.review_queue.config import ReviewQueueConfig
from galaxy_batch.review_queue.draw import DrawnRows, draw_rows, id_keys
from galaxy_batch.review_queue.queue import (
    ReviewQueue,
    catalog_entry,
    queue_schema,
    queue_uri,
    read_queue,
    verdict_names,
    write_queue,
)
from galaxy_batch.storage.files import check_writable, join, read_bytes, without_secrets

__all__ = ["make_queue"]

logger = logging.getLogger(__name__)

_ORDER = "_order"


def make_queue(config: ReviewQueueConfig) -> dict[str, Any]:
    """Draw the galaxies and write the queue; nothing to do where the same queue is there.

    Returns:
        `catalog_uri`, `queue_uri`, `rows`, `pictures`, `seconds`.

    Raises:
        InputError: there is no such catalog, nothing or too much is drawn, or another queue has this name.
    """
    started = time.monotonic()
    manifest = require_manifest(config.catalog_uri)
    uri = queue_uri(config.catalog_uri, config.name)
    queue = _present_queue(config, manifest, uri)
    if queue is None:
        check_writable(uri)
        queue = _new_queue(config, manifest, uri)
        write_queue(queue)
    logger.info("%d galaxies to look at: %s", len(queue.rows), without_secrets(uri))
    return {
        "catalog_uri": without_secrets(config.catalog_uri),
        "queue_uri": without_secrets(uri),
        "rows": len(queue.rows),
        "pictures": queue.record["pictures"],
        "seconds": round(time.monotonic() - started, 3),
    }


def _present_queue(config: ReviewQueueConfig, manifest: CatalogManifest, uri: str) -> ReviewQueue | None:
    """The queue of this name, if it is there and is the one to make."""
    queue = read_queue(uri, "name")
    if queue is None:
        return None
    catalog = catalog_entry(config.catalog_uri, manifest)
    same = ("release", "model_id", "run_id", "fingerprint")
    differs = [name for name, value in config.drawn_by.items() if queue.record.get("settings", {}).get(name) != value]
    differs += [name for name in same if queue.record["catalog"].get(name) != catalog[name]]
    if differs:
        remedy = f"another queue has this name ({', '.join(differs)} differs), and verdicts may belong to it"
        raise InputError("name", config.name, f"{remedy}: choose another name")
    logger.info("nothing to do: the queue is there")
    return queue


def _new_queue(config: ReviewQueueConfig, manifest: CatalogManifest, uri: str) -> ReviewQueue:
    schema = pq.read_schema(pa.BufferReader(read_bytes(join(config.catalog_uri, hats.COMMON_METADATA))))
    wanted = queue_schema(schema.field("object_id").type, manifest.classes)
    of_catalog = [name for name in wanted.names if name in schema.names]
    verdicts = verdict_names(manifest.classes)
    drawn = draw_rows(config, manifest, schema, of_catalog)
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
        "pictures": len(rows) - rows["picture"].null_count,
    }
    return ReviewQueue(uri, record, rows)


def _in_order(drawn: DrawnRows, config: ReviewQueueConfig) -> pa.Table:
    """The drawn rows in the order to look at."""
    keys = pa.array(id_keys(drawn.rows["object_id"], "order", config.seed))
    rows = drawn.rows.append_column(_ORDER, keys)
    by = [(_ORDER, "ascending"), ("object_id", "ascending")]
    by = [("reason", "ascending"), *by] if config.order == "reason" else by
    return rows.take(pc.sort_indices(rows, sort_keys=by)).drop_columns([_ORDER])
