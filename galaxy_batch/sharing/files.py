"""The files that are shared: those that `manifest.json` lists, those of the collection, and those that are written."""

import hashlib
from dataclasses import dataclass

from galaxy_batch.catalog.collection import COLLECTION, collection_uri
from galaxy_batch.catalog.manifest import MANIFEST, CatalogManifest
from galaxy_batch.errors import GateError, without_secrets
from galaxy_batch.storage.files import filesystem, join, read_bytes

__all__ = ["CATALOG", "SharedFile", "catalog_files", "collection_files", "manifest_file", "written_file"]

CATALOG = "catalog"
"""Folder of the catalog, at the target and in a release."""


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
    rows = {file.path: file.rows for file in manifest.files}
    files = [
        SharedFile(
            join(CATALOG, file.path),
            file.bytes,
            file.sha256,
            uri=join(catalog_uri, file.path),
            rows=rows.get(file.path, 0),
        )
        for file in manifest.inside
    ]
    return sorted(files, key=lambda file: file.path)


def manifest_file(content: bytes) -> SharedFile:
    """`manifest.json`, the last one to be written."""
    return written_file(join(CATALOG, MANIFEST), content)


def collection_files(catalog_uri: str, manifest: CatalogManifest) -> list[SharedFile]:
    """The margin cache and the index beside a catalog, as `manifest.json` lists them; none if it was copied alone."""
    folder = collection_uri(catalog_uri)
    files = [
        SharedFile(file.path, file.bytes, file.sha256, uri=join(folder, file.path)) for file in manifest.beside.all
    ]
    fs, path = filesystem(join(folder, COLLECTION))
    return sorted(files, key=lambda file: (file.path == COLLECTION, file.path)) if files and fs.exists(path) else []
