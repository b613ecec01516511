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

    Of a HATS catalog these are its data files only, without thumbnails and other Parquet files beside them.

    Raises:
        InputError: there are none.
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
        files = _parquet_files(fs, _primary_catalog(uri, fs, path))
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
    text = read_bytes(join(uri, _HATS_COLLECTION)).decode("utf-8", "replace")
    primary = re.search(r"(?m)^hats_primary_table_url\s*=\s*(\S+)", text)
    if primary is None or "://" in primary[1]:
        raise InputError("manifest.uri", uri, f"{_HATS_COLLECTION} names no folder: give that of the catalog itself")
    return posixpath.join(path.rstrip("/"), primary[1].strip("/"))
