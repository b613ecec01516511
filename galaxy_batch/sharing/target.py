"""A folder, or a prefix of an object store, that a catalog is shared to."""

import posixpath
from collections.abc import Iterable
from typing import Protocol

from galaxy_batch.errors import GateError, without_secrets
from galaxy_batch.sharing.files import SharedFile
from galaxy_batch.storage.files import check_writable, filesystem, join, read_bytes, remove_tree, write_atomically

__all__ = ["FolderTarget", "Target"]

_UNFINISHED = ".tmp-"  # beginning of the names of files that a killed run has left on a local disk


class Target(Protocol):
    """Where files go. A file that is there is whole: it is written in one atomic step, or in one commit."""

    at_once: int
    """Files that may be put at a time."""
    ours: frozenset[str]
    """Names of files that the target has before anything is shared to it."""

    def prepare(self) -> None:
        """Check that files can be put.

        Raises:
            InputError: they cannot.
        """

    def names(self) -> set[str]:
        """The names of all files there."""

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none."""

    def missing(self, files: Iterable[SharedFile]) -> list[SharedFile]:
        """The files that are not there, or with another size or checksum."""

    def put(self, file: SharedFile) -> None:
        """Write a file; whoever was there under its name is replaced.

        Raises:
            GateError: the source has changed, or the target does not have what was written.
        """

    def finish(self) -> None:
        """Return when all files that were put are there. Raises GateError if they are not."""


class FolderTarget:
    """A local folder, or a prefix of an object store. Each file is read again after it was written.

    Args:
        uri: of the folder, which may not exist yet.
    """

    at_once = 4
    ours: frozenset[str] = frozenset()

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")

    def prepare(self) -> None:
        """Remove what a killed run has left, and try to write."""
        for name in self._all_names():
            if posixpath.basename(name).startswith(_UNFINISHED):
                remove_tree(join(self.uri, name))
        check_writable(self.uri, field="to_uri")

    def names(self) -> set[str]:
        """The names of all files there, below the folder."""
        return {name for name in self._all_names() if not posixpath.basename(name).startswith(_UNFINISHED)}

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none."""
        try:
            return read_bytes(join(self.uri, name))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def missing(self, files: Iterable[SharedFile]) -> list[SharedFile]:
        """The files that are not there, or with another content: those of the right size are read."""
        fs, root = filesystem(self.uri)
        fs.invalidate_cache()
        sizes = {path[len(root.rstrip("/")) + 1 :]: info["size"] for path, info in fs.find(root, detail=True).items()}
        return [file for file in files if sizes.get(file.path) != file.size or not self._has(file)]

    def put(self, file: SharedFile) -> None:
        """Write a file in one atomic step, and read it again."""
        write_atomically(join(self.uri, file.path), file.content())
        if not self._has(file):
            place = without_secrets(join(self.uri, file.path))
            raise GateError(f"{place} is not what was written: run the same command again", {"problems": [file.path]})

    def finish(self) -> None:
        """Nothing is left to do: each file was checked when it was written."""

    def _has(self, file: SharedFile) -> bool:
        content = self.read(file.path)
        return content is not None and file.is_content(content)

    def _all_names(self) -> list[str]:
        fs, root = filesystem(self.uri)
        fs.invalidate_cache()
        return [path[len(root.rstrip("/")) + 1 :] for path in fs.find(root)]
