"""The files of a table: one file, a glob, a folder of Parquet files, or a HATS catalog."""

import os
import posixpath
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from galaxy_batch.errors import InputError
from galaxy_batch.storage.files import filesystem, join, read_bytes

__all__ = ["has_wildcards", "is_parquet", "manifest_files", "manifest_folder", "path_columns"]

_WILDCARDS = re.compile(r"[*?\[]")
# Data files of a HATS catalog (IVOA Note HATS 1.0), and the files of our own catalogs for objects without a position.
_HATS_DATA = re.compile(r"(^|/)Norder=\d+/(Dir=\d+/)?Npix=\d+(\.parquet|/[^/]+\.parquet)$")
_HATS_COLLECTION = "collection.properties"
_HATS_PROPERTIES = ("hats.properties", "properties")
_NO_OBJECTS = ("margin", "index", "association", "map")  # of the products of HATS; the others are `object` and `source`
_WITHOUT_POSITION = "/without_position/"
_NULL = "__HIVE_DEFAULT_PARTITION__"


def is_parquet(uri: str) -> bool:
    """Whether the name ends in `.parquet`."""
    return uri.lower().endswith(".parquet")


def has_wildcards(uri: str) -> bool:
    """Whether a URI is a glob; a name with such characters that exists on the local disk is itself meant."""
    return bool(_WILDCARDS.search(uri)) and not os.path.exists(uri)


def manifest_files(uri: str) -> list[str]:
    """The files of a manifest, sorted: one file, the matches of a glob, or the Parquet files of a folder.

    Of a HATS catalog these are its data files only, without thumbnails and other Parquet files beside them; of a HATS
    collection those of the catalog itself, without margin caches and indexes.

    Raises:
        InputError: there are none, or it is a margin cache or an index, or a folder with several HATS catalogs.
    """
    fs, path = filesystem(uri)
    if has_wildcards(uri):
        matches: dict[str, dict[str, Any]] = fs.glob(path, detail=True)
        files = [
            file
            for match, info in matches.items()
            for file in (_parquet_files(fs, match) if info["type"] == "directory" else [match])
        ]
    elif fs.isdir(path):
        catalog = _primary_catalog(uri, fs, path)
        _check_product(uri, fs, catalog)
        files = _parquet_files(fs, catalog)
        _check_one_catalog(uri, files)
    else:
        files = [path] if fs.exists(path) else []
    if not files:
        remedy = "no such file, or a folder without Parquet files; a folder of cutouts is a manifest without a table"
        remedy += ": leave out image_column, uri_template and band_templates"
        raise InputError("manifest.uri", uri, remedy)
    return [str(fs.unstrip_protocol(p)) if "://" in uri else str(p) for p in sorted(files)]


def manifest_folder(uri: str) -> str:
    """The folder that templates are relative to: a folder itself, or the parent of a file or of the first wildcard."""
    if has_wildcards(uri):
        return posixpath.dirname(_WILDCARDS.split(uri)[0])
    fs, path = filesystem(uri)
    return uri.rstrip("/") if fs.isdir(path) else posixpath.dirname(uri)


def path_columns(uri: str) -> dict[str, int | str | None]:
    """Columns in the path of a file, e.g. `Norder=5/Dir=0/Npix=17.parquet` (Hive partitions); integers or text."""
    columns: dict[str, int | str | None] = {}
    if _WITHOUT_POSITION in uri:
        columns = dict.fromkeys(("Norder", "Dir", "Npix"))
    for part in uri.removesuffix(".parquet").split("/"):
        name, equals, text = part.partition("=")
        if equals and name:
            value = unquote(text)
            columns[name] = None if value == _NULL else int(value) if re.fullmatch(r"0|[1-9]\d{0,17}", value) else value
    return columns


def _parquet_files(fs: Any, folder: str) -> list[str]:
    files = [p for p in fs.find(folder) if is_parquet(p) and not posixpath.basename(p).startswith(("_", "."))]
    return _hats_data(folder, files) or files


def _hats_data(folder: str, files: Iterable[str]) -> list[str]:
    data = [file for file in files if _HATS_DATA.search(file)]
    nowhere = [file for file in files if _WITHOUT_POSITION in file.removeprefix(folder)]
    return data + nowhere if data else []


def _primary_catalog(uri: str, fs: Any, path: str) -> str:
    """The folder of the objects in a HATS collection, which also contains margin caches and indexes of them."""
    properties = f"{path.rstrip('/')}/{_HATS_COLLECTION}"
    if not fs.exists(properties):
        return path
    primary = _property(join(uri, _HATS_COLLECTION), "hats_primary_table_url")
    if primary is None or "://" in primary or ".." in primary.split("/"):
        raise InputError("manifest.uri", uri, f"{_HATS_COLLECTION} names no folder: give that of the catalog itself")
    return posixpath.join(path.rstrip("/"), primary.strip("/"))


def _check_product(uri: str, fs: Any, catalog: str) -> None:
    """Refuse HATS products that are not tables of objects."""
    name = next((name for name in _HATS_PROPERTIES if fs.exists(f"{catalog.rstrip('/')}/{name}")), None)
    if name is None:
        return
    product = _property(str(fs.unstrip_protocol(f"{catalog.rstrip('/')}/{name}")), "dataproduct_type")
    if product in _NO_OBJECTS:
        remedy = f"its {name} says that it is of the type {product!r}: give the folder of the catalog itself"
        raise InputError("manifest.uri", uri, remedy)


def _check_one_catalog(uri: str, files: Iterable[str]) -> None:
    catalogs = {_HATS_DATA.split(file)[0] for file in files if _HATS_DATA.search(file)}
    if len(catalogs) > 1:
        names = sorted(posixpath.dirname(c) if posixpath.basename(c) == "dataset" else c for c in catalogs)
        raise InputError("manifest.uri", uri, f"holds several HATS catalogs: {', '.join(names[:5])}; give one of them")


def _property(uri: str, key: str) -> str | None:
    """The value of a key in a file of properties."""
    text = read_bytes(uri).decode("utf-8", "replace")
    value = re.search(rf"(?m)^{key}[ \t]*=[ \t]*(\S+)", text)
    return value[1] if value else None
