"""The search for similar galaxies, from the config to the table and the page.

::

    ids or a cutout ─> queries_of ─> nearest_rows ─> read_examples ┬─> table of the similar galaxies
                                                                   └─> page with their cutouts
"""

import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from galaxy_batch.catalog.manifest import CatalogManifest, require_manifest
from galaxy_batch.errors import InputError
from galaxy_batch.export.formats import encode_table, format_of
from galaxy_batch.release_page.examples import read_examples
from galaxy_batch.release_page.sampling import RowLocation
from galaxy_batch.rows import CATALOG_COLUMNS, column_metadata
from galaxy_batch.similar.config import SimilarConfig
from galaxy_batch.similar.page import SimilarGalaxies, SimilarGalaxy, write_page
from galaxy_batch.similar.queries import Query, queries_of
from galaxy_batch.similar.search import Nearest, nearest_rows
from galaxy_batch.storage.files import beside, check_outside, check_writable, without_secrets, write_atomically

__all__ = ["find_similar"]

logger = logging.getLogger(__name__)

_CATALOG_COLUMNS = ("object_id", "predicted_class", "confidence", "ra", "dec")


def find_similar(config: SimilarConfig) -> dict[str, Any]:
    """Find the nearest rows of each query, and write the table and the page.

    Returns:
        `catalog_uri`, `queries`, `rows` of the table, `searched` rows, `output_uri`, `report_uri`, `seconds`.

    Raises:
        InputError: there is no such catalog, it has no embeddings, or a query or output cannot be used.
    """
    started = time.monotonic()
    kind = format_of(config.output_uri) if config.output_uri is not None else None
    manifest = require_manifest(config.catalog_uri)
    if not manifest.embedding_size:
        remedy = "the catalog has no embeddings; make it with classify.embedding"
        raise InputError("catalog_uri", config.catalog_uri, remedy)
    folder = config.report_uri or beside(config.catalog_uri, "similar")
    _check_outputs(config, folder)
    queries = queries_of(config, manifest)
    galaxies = _similar_to(queries, config, manifest)
    searched = manifest.rows - manifest.failed
    logger.info("%s rows searched in %.1f s", f"{searched:,}", time.monotonic() - started)
    table = _table(galaxies, manifest)
    if config.output_uri is not None and kind is not None:
        title = f"Similar galaxies of release {manifest.release}, by checkpoint {manifest.model_id}"
        about = {"release": manifest.release, "model_id": manifest.model_id}
        write_atomically(config.output_uri, encode_table(table, kind, title, about))
        logger.info("%d rows: %s", len(table), without_secrets(config.output_uri))
    report_uri = write_page(galaxies, config, manifest, folder)
    return {
        "catalog_uri": without_secrets(config.catalog_uri),
        "queries": len(queries),
        "rows": len(table),
        "searched": searched,
        "output_uri": config.output_uri and without_secrets(config.output_uri),
        "report_uri": without_secrets(report_uri),
        "seconds": round(time.monotonic() - started, 3),
    }


def _check_outputs(config: SimilarConfig, folder: str) -> None:
    for field, uri in (("output_uri", config.output_uri), ("report_uri", folder)):
        if uri is not None:
            check_outside(field, uri, config.catalog_uri)
    check_writable(folder, field="report_uri")
    if config.output_uri is not None:
        check_writable(config.output_uri.rpartition("/")[0] or "/", config.output_uri)


def _similar_to(queries: Sequence[Query], config: SimilarConfig, manifest: CatalogManifest) -> list[SimilarGalaxies]:
    """The nearest rows of each query, without the query itself."""
    embeddings = np.stack([query.embedding for query in queries])
    nearest = nearest_rows(config.catalog_uri, list(manifest.embeddings.values()), embeddings, config.k + 1)
    others = [_without(query.place, rows)[: config.k] for query, rows in zip(queries, nearest, strict=True)]
    own = [query.place for query in queries if query.place is not None]
    locations = {location for of_query in others for _, location in of_query} | set(own)
    rows = read_examples(config.catalog_uri, manifest, sorted(locations))
    return [
        SimilarGalaxies(
            query=query,
            row=rows[query.place] if query.place is not None else None,
            nearest=tuple(
                SimilarGalaxy(rank, distance, rows[location]) for rank, (distance, location) in enumerate(of_query, 1)
            ),
        )
        for query, of_query in zip(queries, others, strict=True)
    ]


def _without(place: RowLocation | None, nearest: Nearest) -> list[tuple[float, RowLocation]]:
    """Distance and place of the rows other than this one."""
    rows = zip(nearest.distances.tolist(), map(RowLocation._make, nearest.places.tolist()), strict=True)
    return [(distance, location) for distance, location in rows if location != place]


def _table(galaxies: Sequence[SimilarGalaxies], manifest: CatalogManifest) -> pa.Table:
    """One row for each similar galaxy of each query."""
    known = {column.name: column for column in CATALOG_COLUMNS}
    id_type = manifest.id_type
    of_catalog = all(of_query.row is not None for of_query in galaxies)
    schema = pa.schema(
        [
            pa.field("query", id_type if of_catalog else pa.string(), metadata={"description": "Galaxy, or file"}),
            pa.field("rank", pa.int32(), metadata={"description": "From 1, the most similar"}),
            *(
                pa.field(
                    name, id_type if name == "object_id" else known[name].type, metadata=column_metadata(known[name])
                )
                for name in _CATALOG_COLUMNS
            ),
        ]
    )
    distance = pa.field(
        "distance", pa.float32(), metadata={"description": "Cosine distance of the embeddings, from 0 to 2"}
    )
    schema = schema.insert(3, distance)
    rows = [
        {"query": of_query.query.name, "rank": one.rank, "distance": one.distance}
        | {name: getattr(one.row, name) for name in _CATALOG_COLUMNS}
        for of_query in galaxies
        for one in of_query.nearest
    ]
    return pa.Table.from_pylist(rows, schema=schema)
