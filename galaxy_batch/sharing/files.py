"""The files that are shared: those that `manifest.json` lists, those of the collection, and those that are written."""

import hashlib
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from galaxy_batch.catalog.files import MetadataFile, RowFile
from galaxy_batch.catalog.hats import read_properties
from galaxy_batch.catalog.manifest import MANIFEST, CatalogManifest
from galaxy_batch.errors import GateError, InputError, without_secrets
from galaxy_batch.storage.files import filesystem, join, read_bytes

__all__ = ["CATALOG", "COLLECTION", "SharedFile", "catalog_files", "collection_files", "manifest_file", "written_file"]

CATALOG = "catalog"
"""Folder of the catalog, at the target and in a release."""
COLLECTION = "collection.properties"
"""What makes the folder above a catalog a HATS collection: it names the catalog, its margin caches and its indexes."""


@dataclass(frozen=True)
class SharedFile:
    """One file at the target: its name there, its size and checksum, and where its content comes from."""

    path: str
    """Below the target."""
    size: int
    """Bytes."""
    sha256: str
    uri: str | None = None
    """Where it is read; None if `written` is given."""
    written: bytes | None = None
    """Its content, if it is written by the job."""
    rows: int = 0
    """Rows of the catalog in it, for the progress of a copy."""

    def content(self) -> bytes:
        """The content.

        Raises:
            GateError: the file is not there, or its content is not what it was.
        """
        if self.written is not None:
            return self.written
        assert self.uri is not None
        try:
            content = read_bytes(self.uri)
        except FileNotFoundError:
            raise GateError(f"{without_secrets(self.uri)} is gone: the catalog has changed meanwhile", {}) from None
        if not self.is_content(content):
            raise GateError(f"{without_secrets(self.uri)} has changed: the catalog has changed meanwhile", {})
        return content

    def is_content(self, content: bytes) -> bool:
        """Whether these bytes are the content."""
        return len(content) == self.size and hashlib.sha256(content).hexdigest() == self.sha256


def written_file(path: str, content: bytes) -> SharedFile:
    """A file that the job writes."""
    return SharedFile(path, len(content), hashlib.sha256(content).hexdigest(), written=content)


def catalog_files(catalog_uri: str, manifest: CatalogManifest) -> list[SharedFile]:
    """The files that `manifest.json` lists, in the order of their paths."""
    listed: Iterable[RowFile | MetadataFile] = (*manifest.files, *manifest.metadata_files, *manifest.embedding_files)
    rows = {file.path: file.rows for file in manifest.files}
    files = [
        SharedFile(
            join(CATALOG, file.path),
            file.bytes,
            file.sha256,
            uri=join(catalog_uri, file.path),
            rows=rows.get(file.path, 0),
        )
        for file in listed
    ]
    return sorted(files, key=lambda file: file.path)


def manifest_file(content: bytes) -> SharedFile:
    """`manifest.json`, the last one to be written."""
    return written_file(join(CATALOG, MANIFEST), content)


def collection_files(catalog_uri: str) -> list[SharedFile]:
    """The files of the catalog's collection beside the catalog: margin caches, indexes, and what names them.

    Every file is read once, for its checksum; none where the catalog is in no collection.

    Raises:
        InputError: the collection names another catalog, or a folder that is not beside it.
    """
    folder = posixpath.dirname(catalog_uri.rstrip("/"))
    try:
        content = read_bytes(join(folder, COLLECTION))
    except FileNotFoundError:
        return []
    properties = read_properties(content)
    if properties.get("hats_primary_table_url", "").strip("/") != CATALOG:
        raise InputError("catalog_uri", catalog_uri, f"{COLLECTION} beside it names another catalog")
    indexes = properties.get("all_indexes", "").split()  # column and folder in turn
    names = [*properties.get("all_margins", "").split(), *indexes[1::2]]
    if any(name in (".", "..", CATALOG) or "/" in name for name in names):
        raise InputError("catalog_uri", catalog_uri, f"{COLLECTION} names a folder that is not beside the catalog")
    files = [file for name in names for file in _folder_files(folder, name)]
    return [*files, written_file(COLLECTION, content)]


def _folder_files(folder: str, name: str) -> Iterator[SharedFile]:
    """Every file below a folder, with its checksum."""
    fs, root = filesystem(join(folder, name))
    fs.invalidate_cache()
    paths = sorted(path[len(root.rstrip("/")) + 1 :] for path in fs.find(root))
    if not paths:
        raise InputError("catalog_uri", join(folder, CATALOG), f"{COLLECTION} names {name}, which is not there")
    for path in paths:
        uri = join(folder, name, path)
        content = read_bytes(uri)
        yield SharedFile(join(name, path), len(content), hashlib.sha256(content).hexdigest(), uri)
