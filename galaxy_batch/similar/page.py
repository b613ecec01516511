"""The page of similar galaxies: each query and the cutouts of the rows nearest to it."""

import dataclasses
import logging
from collections.abc import Sequence

from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.config import ClassifyConfig
from galaxy_batch.errors import without_secrets
from galaxy_batch.release_page.examples import Example, example_tile
from galaxy_batch.report.cutouts import Cutout, fetch_examples
from galaxy_batch.report.page import Tile, count, number, render
from galaxy_batch.settings import parse_config
from galaxy_batch.similar.config import SimilarConfig
from galaxy_batch.similar.queries import Query
from galaxy_batch.storage.files import join, write_atomically

__all__ = ["SimilarGalaxies", "SimilarGalaxy", "write_page"]

logger = logging.getLogger(__name__)

_MAX_CUTOUTS = 500  # on one page


@dataclasses.dataclass(frozen=True)
class SimilarGalaxy:
    """A row of the catalog that is near a query."""

    rank: int
    """From 1, the nearest."""
    distance: float
    """Cosine distance of the embeddings."""
    row: Example


@dataclasses.dataclass(frozen=True)
class SimilarGalaxies:
    """A query and the rows that are nearest to it."""

    query: Query
    row: Example | None
    """The query's own row; None for a cutout."""
    nearest: tuple[SimilarGalaxy, ...]


def write_page(
    galaxies: Sequence[SimilarGalaxies], config: SimilarConfig, manifest: CatalogManifest, folder_uri: str
) -> str:
    """Write the page; its URI. It has `_MAX_CUTOUTS` cutouts at most: the first queries, and the nearest of each."""
    most = max(1, _MAX_CUTOUTS // (1 + max(len(of_query.nearest) for of_query in galaxies)))
    shown = [
        dataclasses.replace(of_query, nearest=of_query.nearest[: _MAX_CUTOUTS - 1]) for of_query in galaxies[:most]
    ]
    rows = [row for of_query in shown for row in (of_query.row, *(one.row for one in of_query.nearest)) if row]
    ids = list(dict.fromkeys(row.object_id for row in rows))
    cutouts = fetch_examples(ids, manifest, config.manifest)

    def tile(row: Example, *lines: str) -> Tile:
        made = example_tile(row, cutouts[str(row.object_id)], config.links, folder_uri, None)
        return dataclasses.replace(made, caption=(*lines, *made.caption))

    sections = []
    for of_query in shown:
        query = tile(of_query.row, "query") if of_query.row else _cutout_tile(of_query.query, manifest)
        near = [tile(one.row, f"{one.rank}: distance {number(one.distance)}") for one in of_query.nearest]
        sections.append((str(of_query.query.name), [query, *near]))
    html = render(
        "galaxy_batch.similar",
        "similar.html",
        title=f"Similar galaxies: {manifest.release}",
        about=[("model", manifest.model_id), ("catalog", without_secrets(config.catalog_uri))],
        manifest=manifest,
        searched=count(manifest.rows - manifest.failed, "galaxy", "galaxies"),
        sections=sections,
        left_out=len(galaxies) - len(shown),
    )
    uri = join(folder_uri, "index.html")
    write_atomically(uri, html.encode())
    logger.info("page of similar galaxies: %s", without_secrets(uri))
    return uri


def _cutout_tile(query: Query, manifest: CatalogManifest) -> Tile:
    """The query's own cutout, where it is not in the catalog."""
    limits = parse_config(ClassifyConfig, manifest.config["classify"])
    crop = float(manifest.checkpoint["spec"]["crop_fraction"])
    picture = Cutout(query.content, limits=limits, crop_fraction=crop).picture(f"Cutout {query.name}")
    return Tile((picture,), ("query", query.prediction, str(query.name)))
