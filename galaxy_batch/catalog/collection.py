"""The HATS collection that a catalog is in: what is beside it, and the files that describe that.

::

    collection.properties                                        names the catalog, the margin cache and the index
    catalog/                                                     the catalog, which needs none of the others
    margin_10arcs/dataset/Norder=<k>/Dir=<d>/Npix=<p>.parquet    rows near pixel p of order k, in other pixels
    margin_10arcs/{hats.properties, partition_info.csv, dataset/_metadata, dataset/_common_metadata}
    index_object_id/dataset/index/part-000000.parquet            sorted ids, and the pixel of each
    index_object_id/{hats.properties, dataset/_metadata, dataset/_common_metadata}

With `collection.properties`, LSDB opens all of it: a crossmatch reads each pixel of the catalog with its margin, so
that no pair is lost whose galaxies are in two pixels, and `id_search` reads only the files that have an id. What
`hats-import` 0.11 writes is the reference.
"""

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from galaxy_batch.catalog import hats
from galaxy_batch.catalog.files import MetadataFile, RowFile
from galaxy_batch.catalog.id_index import index_path, index_schema
from galaxy_batch.sky.healpix import Tile
from galaxy_batch.storage.files import join, list_folders, remove_tree

__all__ = [
    "COLLECTION",
    "INDEX",
    "CollectionFiles",
    "collection_problem",
    "collection_properties",
    "collection_uri",
    "index_metadata",
    "index_properties",
    "margin_folder",
    "margin_metadata",
    "margin_path",
    "margin_pixel_of",
    "margin_properties",
    "remove_collection",
]

COLLECTION = "collection.properties"
INDEX = "index_object_id"
"""Folder of the index."""
_CATALOG = "catalog"
_MARGIN = re.compile(r"margin_[\d.e+-]+arcs")


class CollectionSettings(Protocol):
    """What is in the collection beside the catalog, as a `CatalogManifest` says it."""

    @property
    def release(self) -> str: ...
    @property
    def margin_arcsec(self) -> float: ...
    @property
    def index(self) -> bool: ...


@dataclass(frozen=True)
class CollectionFiles:
    """The files beside the catalog; each path is below the folder of the collection."""

    margin: tuple[RowFile, ...] = ()
    index: tuple[RowFile, ...] = ()
    others: tuple[MetadataFile, ...] = ()

    @property
    def all(self) -> tuple[RowFile | MetadataFile, ...]:
        """Every file."""
        return (*self.margin, *self.index, *self.others)


def collection_uri(catalog_uri: str) -> str:
    """The folder of the collection: the one above the catalog's."""
    return posixpath.dirname(catalog_uri.rstrip("/"))


def margin_folder(margin_arcsec: float) -> str:
    """Name of the margin cache, by its width."""
    return f"margin_{margin_arcsec:g}arcs"


def margin_path(margin_arcsec: float, order: int, pixel: int) -> str:
    """The path of the margin of a pixel."""
    return f"{margin_folder(margin_arcsec)}/{hats.tile_path(order, pixel)}"


def margin_pixel_of(path: str) -> tuple[int, int] | None:
    """Order and pixel of a path that `margin_path` has made; None for any other path."""
    return hats.pixel_of(path.partition("/")[2])


def margin_metadata(
    settings: CollectionSettings,
    tiles: Sequence[Tile],
    schema: pa.Schema,
    footers: Sequence[tuple[str, bytes]],
    size_bytes: int,
) -> dict[str, bytes]:
    """The content of the files that make the margin a HATS catalog, by path.

    Args:
        settings: of the catalog.
        tiles: pixels that have a margin, and the rows in it.
        schema: of the catalog, with the VOTable header.
        footers: path and Parquet metadata of each file of the margin.
        size_bytes: of all files of the margin.
    """
    folder = margin_folder(settings.margin_arcsec)
    contents = {
        hats.PROPERTIES: hats.properties(margin_properties(settings, tiles, size_bytes)),
        hats.PARTITIONS: hats.partition_info(tiles),
        hats.COMMON_METADATA: hats.common_metadata(schema),
        **hats.optional_metadata(schema, [(_below(path), footer) for path, footer in footers]),
    }
    return {f"{folder}/{path}": content for path, content in contents.items()}


def margin_properties(settings: CollectionSettings, tiles: Sequence[Tile], size_bytes: int) -> dict[str, object]:
    """The entries of the margin's `hats.properties`."""
    entries = hats.describe(settings.release, tiles, 0, size_bytes)
    of_catalog = ("hats_max_rows", "hats_skymap_order", "hats_cols_survey_id")
    return {key: value for key, value in entries.items() if key not in of_catalog} | {
        "obs_collection": margin_folder(settings.margin_arcsec),
        "obs_title": f"Margin cache of the galaxy morphologies of release {settings.release}",
        "dataproduct_type": "margin",
        "hats_primary_table_url": f"../{_CATALOG}",
        "hats_margin_threshold": f"{settings.margin_arcsec:g}",
    }


def index_metadata(
    settings: CollectionSettings, id_type: pa.DataType, footers: Sequence[tuple[str, bytes]], rows: int
) -> dict[str, bytes]:
    """The content of the files that make the index one of a HATS catalog, by path.

    Args:
        settings: of the catalog.
        id_type: of `object_id`.
        footers: path and Parquet metadata of each file of the index.
        rows: of the index.
    """
    schema = index_schema(id_type)
    contents = {
        hats.PROPERTIES: hats.properties(index_properties(settings, rows)),
        hats.COMMON_METADATA: hats.common_metadata(schema),
        hats.METADATA: hats.dataset_metadata(schema, [(_below(path), footer) for path, footer in footers]),
    }
    return {f"{INDEX}/{path}": content for path, content in contents.items()}


def index_properties(settings: CollectionSettings, rows: int) -> dict[str, object]:
    """The entries of the index's `hats.properties`."""
    entries = hats.describe(settings.release, [], 0, 0)
    general = ("hats_builder", "hats_creation_date", "hats_version")
    return {
        "obs_collection": INDEX,
        "obs_title": f"Index by object_id of the galaxy morphologies of release {settings.release}",
        "dataproduct_type": "index",
        "hats_nrows": rows,
        "hats_primary_table_url": f"../{_CATALOG}",
        "hats_index_column": "object_id",
        **{key: entries[key] for key in general},
    }


def collection_properties(settings: CollectionSettings) -> dict[str, object]:
    """The entries of `collection.properties`; none where there is nothing beside the catalog."""
    margin, index = settings.margin_arcsec > 0, settings.index
    entries: dict[str, object] = {"obs_collection": settings.release, "hats_primary_table_url": _CATALOG}
    if margin:
        folder = margin_folder(settings.margin_arcsec)
        entries |= {"all_margins": folder, "default_margin": folder}
    if index:
        entries |= {"all_indexes": f"object_id {INDEX}", "default_index": "object_id"}
    return entries if margin or index else {}


def collection_problem(settings: CollectionSettings, files: CollectionFiles) -> str | None:
    """What is wrong in a list of the files; None where nothing is."""
    margin, index = settings.margin_arcsec > 0, settings.index
    folder = margin_folder(settings.margin_arcsec)
    pixels = [margin_pixel_of(file.path) for file in files.margin]
    expected = [margin_path(settings.margin_arcsec, *pixel) for pixel in pixels if pixel]
    if [file.path for file in files.margin] != sorted(set(expected)) or (expected and not margin):
        return "margin_files are not where the rows of a margin belong, or there is no margin"
    if [file.path for file in files.index] != [f"{INDEX}/{index_path(number)}" for number in range(len(files.index))]:
        return "index_files are not where the ids belong"
    if bool(files.index) != index:
        return "index_files must be there exactly with index = true"
    of_margin = (hats.PROPERTIES, hats.PARTITIONS, hats.METADATA, hats.COMMON_METADATA)
    of_index = (hats.PROPERTIES, hats.METADATA, hats.COMMON_METADATA)
    others = [f"{folder}/{path}" for path in of_margin] if margin else []
    others += [f"{INDEX}/{path}" for path in of_index] if index else []
    others += [COLLECTION] if others else []
    if sorted(file.path for file in files.others) not in (
        sorted(others),
        sorted(path for path in others if path != f"{folder}/{hats.METADATA}"),
    ):
        return f"collection_files must be {', '.join(sorted(others)) or 'none'}"
    return None


def remove_collection(catalog_uri: str) -> None:
    """Remove what `collection.properties` names, beside a catalog that was removed; that file was removed first."""
    folder = collection_uri(catalog_uri)
    for name in list_folders(folder):
        if name == INDEX or _MARGIN.fullmatch(name):
            remove_tree(join(folder, name))


def _below(path: str) -> str:
    return path.partition("/")[2]
