"""A folder of cutouts as a manifest: also a glob, a zip, a tar, or a prefix of an object store.

One listing, of which about 1.5 kB per file are in memory at a time. The id of a cutout is its file name without the
ending, as text. The size of each file, and its checksum or time of change, are part of the manifest's content id.
"""

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.columns import check_columns
from galaxy_batch.inputs.files import has_wildcards, manifest_folder
from galaxy_batch.rows import IMAGE_URI
from galaxy_batch.storage.archives import file_version, is_archive, member_uri, open_archive
from galaxy_batch.storage.files import DamagedMemberError, filesystem, join

__all__ = ["VERSION_COLUMNS", "image_ending", "read_folder"]

VERSION_COLUMNS = ("size_bytes", "version")
"""Columns that tell whether a file has changed."""

_IMAGE = re.compile(r"\.(jpe?g|png|webp|tiff?|gif|bmp|(fits?|fts)(\.(gz|bz2|fz))?)$", re.IGNORECASE)  # as in `decode`
_TABLE = re.compile(r"\.(parquet|csv|tsv|ecsv|vot|votable|xml)(\.(gz|bz2))?$", re.IGNORECASE)
_FITS = re.compile(r"\.(fits?|fts)(\.(gz|bz2))?$", re.IGNORECASE)
_FITS_TABLE = re.compile(rb"XTENSION= '(BIN)?TABLE")
_HIDDEN = re.compile(r"(^|/)(\.|__MACOSX/)")
_NOT_UTF8 = re.compile(r"[\ud800-\udfff]")  # bytes of a name that Python could not decode
_MAX_PEEKED = 8  # FITS files among other images that may be tables
_HEAD_BYTES = 1 << 16
_SHOWN = 5


class _File(NamedTuple):
    """One file of the listing."""

    path: str
    """Below the folder."""
    size: int
    version: str


def image_ending(name: str) -> str | None:
    """The ending of an image's name, e.g. `.jpg` or `.fits.gz`; None for another file."""
    match = _IMAGE.search(name)
    return match[0] if match else None


def read_folder(config: ManifestConfig) -> pa.Table:
    """One row per image, in the order of the paths.

    Returns:
        A table of the id column, `_image_uri`, `file` (the path below the folder), `size_bytes` and `version`.

    Raises:
        InputError: no such folder, no images, a table beside them, a name that is not UTF-8, or two files with one id.
    """
    folder, files, others = _listing(config)
    images = sorted((file for file in files if image_ending(file.path)), key=lambda file: file.path)
    if not has_wildcards(config.uri) and folder is not None:
        _check_tables(folder, images, [file.path for file in files], others)
    if not images:
        raise InputError("manifest.uri", config.uri, _emptiness(config, [file.path for file in files], others))
    paths = [file.path for file in images]
    _check_names(config, paths)
    ids = [posixpath.basename(path)[: -len(image_ending(path) or "")] for path in paths]
    _check_ids(config, ids, paths)
    uris = [join(folder, path) if folder is not None else member_uri(config.uri, path) for path in paths]
    columns = {
        IMAGE_URI: pa.array(uris, pa.string()),
        "file": pa.array(paths, pa.string()),
        "size_bytes": pa.array([file.size for file in images], pa.int64()),
        "version": pa.array([file.version for file in images], pa.string()),
        config.id_column: pa.array(ids, pa.string()),
    }
    check_columns(list(columns), config, config.uri)
    return pa.table(columns)


def _listing(config: ManifestConfig) -> tuple[str | None, list[_File], list[str]]:
    """The folder's URI, None for an archive; its files, without hidden ones; and the folders in it."""
    fs, path = filesystem(config.uri)
    try:
        if is_archive(config.uri) and not (isinstance(fs, LocalFileSystem) and fs.isdir(path)):
            return None, _members(config), []
        if "http" in fs.protocol:
            remedy = "a web server has no listing of its files: give a zip or a tar there, or a table with uri_template"
            raise InputError("manifest.uri", config.uri, remedy)
        fs.invalidate_cache()
        entries = list(_entries(fs, path, config))
        fs.invalidate_cache()  # the driver would keep the listing
    except (FileNotFoundError, NotADirectoryError):
        raise InputError("manifest.uri", config.uri, "no such file or folder") from None
    if has_wildcards(config.uri):
        folder = manifest_folder(config.uri)
    elif [entry["name"] for entry in entries] == [path]:  # one file
        folder = posixpath.dirname(config.uri)
    else:
        folder = config.uri.rstrip("/")
    root = fs._strip_protocol(folder).rstrip("/") + "/"
    files, folders = [], []
    for entry in entries:
        name = str(entry["name"])
        below = name.removeprefix(root)
        if _HIDDEN.search(below):
            continue
        if entry["type"] == "directory":
            folders.append(below)
        else:
            files.append(_File(below, int(entry.get("size") or 0), file_version(entry)))
    return folder, files, folders


def _entries(fs: Any, path: str, config: ManifestConfig) -> Iterable[dict[str, Any]]:
    """What the store lists: the matches of a glob, the files of a folder, or those of all folders below as well."""
    if has_wildcards(config.uri):
        matches: dict[str, dict[str, Any]] = fs.glob(path, detail=True)
        return matches.values()
    if config.recursive:
        found: dict[str, dict[str, Any]] = fs.find(path, detail=True)
        if not found and not fs.exists(path):
            raise FileNotFoundError(path)
        return found.values()
    listed: list[dict[str, Any]] = fs.ls(path, detail=True)
    return [entry for entry in listed if entry["name"].rstrip("/") != path.rstrip("/") or entry["type"] == "file"]


def _members(config: ManifestConfig) -> list[_File]:
    """The files of an archive; those in folders too, since an archive is one set of images."""
    kind = member_uri(config.uri, "")[:3]
    try:
        archive = open_archive(kind, config.uri)
    except DamagedMemberError as error:
        raise InputError("manifest.uri", config.uri, str(error)) from None
    rows = zip(archive.names, archive.members.tolist(), archive.versions.tolist(), strict=True)
    return [_File(name, member[3], str(version)) for name, member, version in rows if not _HIDDEN.search(name)]


def _check_tables(folder: str, images: list[_File], paths: list[str], folders: list[str]) -> None:
    """Refuse a folder with a table in it, which probably is the manifest."""
    tables = [path for path in paths if _TABLE.search(path)]
    fits = [file.path for file in images if _FITS.search(file.path)]
    if len(fits) <= _MAX_PEEKED and len(fits) < len(images):
        tables += [path for path in fits if _is_fits_table(join(folder, path))]
    if not tables:
        return
    beside = [file.path for file in images if file.path not in tables]
    where = f"{sorted(folders)[0]}/" if folders and not beside else ""
    ending = image_ending(beside[0]) if beside else ".jpg"
    remedy = (
        f"holds a table, {tables[0]}. To classify the objects of the table, set uri = {join(folder, tables[0])!r}, "
        f"id_column = 'ID' and uri_template = '{where}{{ID}}{ending}', with the name of its column of ids for ID. To "
        f"classify the images alone, set uri = {join(folder, f'{where}*{ending}')!r}"
    )
    raise InputError("manifest.uri", folder, remedy)


def _is_fits_table(uri: str) -> bool:
    fs, path = filesystem(uri)
    try:
        with fs.open(path, "rb", compression="infer") as file:
            head = file.read(_HEAD_BYTES)
    except (OSError, EOFError):
        return False
    return bool(_FITS_TABLE.search(head)) and b"ZIMAGE  =" not in head


def _emptiness(config: ManifestConfig, paths: list[str], folders: list[str]) -> str:
    """What is there instead of images."""
    there = [f"{len(names)} {what} ({', '.join(sorted(names)[:_SHOWN])}{', …' if len(names) > _SHOWN else ''})"
             for names, what in ((paths, "other files"), (folders, "folders")) if names]  # fmt: skip
    nothing = "no file matches" if has_wildcards(config.uri) else "it is empty"
    remedy = "holds no images: " + (" and ".join(there) or nothing)
    if {"hats.properties", "collection.properties"} & set(paths):
        remedy += "; it is a HATS catalog: set image_column to the column with the images"
    if folders and not config.recursive:
        remedy += "; set recursive = true for the images in its folders"
    return (
        f"{remedy}. Images are named .jpg, .jpeg, .png, .webp, .tif, .gif, .bmp, .fits, .fits.gz, .fits.bz2, .fits.fz"
    )


def _check_names(config: ManifestConfig, paths: list[str]) -> None:
    bad = [ascii(path) for path in paths if _NOT_UTF8.search(path)]
    if bad:
        shown = ", ".join(bad[:_SHOWN])
        remedy = f"{len(bad)} file names are not UTF-8: {shown}. Rename these: their ids could not be written"
        raise InputError("manifest.uri", config.uri, remedy)


def _check_ids(config: ManifestConfig, ids: list[str], paths: list[str]) -> None:
    if len(set(ids)) == len(ids):
        return
    files = defaultdict[str, list[str]](list)
    for name, path in zip(ids, paths, strict=True):
        files[name].append(path)
    shared = {name: where for name, where in files.items() if len(where) > 1}
    shown = "; ".join(f"{name}: {', '.join(where[:_SHOWN])}" for name, where in list(shared.items())[:_SHOWN])
    remedy = (
        f"{len(shared)} ids, which are the file names without ending, belong to several files: {shown}. Rename these, "
        "or classify one folder or ending at a time, e.g. with a glob"
    )
    raise InputError("manifest.uri", config.uri, remedy)
