"""A dataset repository of the Hugging Face hub that a catalog is shared to.

The content of large files is sent through the hub's Xet or LFS storage (`preupload_lfs_files`), some files at a time,
and named in commits of many files. `HfFileSystem`, which fsspec offers, makes a commit of each file, of which the hub
allows a few hundred an hour; `upload_folder` reads local folders only, and does not let `manifest.json` come last. What
a killed run has committed is not sent again; of what it has sent besides, Xet takes only the pieces that it lacks.

After each commit the hub is asked for the size and the checksum of its files: the SHA-256 of large files, which it
computes from what it received, and git's hash of small ones.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from galaxy_batch.errors import GateError, InputError
from galaxy_batch.sharing.files import SharedFile
from galaxy_batch.storage.retries import is_transient

__all__ = ["HubTarget"]

_KIND = "dataset"
_SENT_BYTES = 200_000_000  # sent together, and held in memory until then
_COMMIT_FILES = 200
_COMMIT_BYTES = 50_000_000  # of small files, whose content is in the commit


class HubTarget:
    """A dataset repository. Credentials come from `HF_TOKEN` or the hub's own login.

    Args:
        uri: `hf://datasets/OWNER/NAME`.
        private: whether a repository that is created is private.

    Raises:
        InputError: huggingface_hub is not installed.
    """

    at_once = 1
    ours = frozenset({".gitattributes"})

    def __init__(self, uri: str, private: bool) -> None:
        try:
            import huggingface_hub.errors  # noqa: PLC0415 - optional dependency, which loads its modules on demand
            import huggingface_hub.hf_api  # noqa: PLC0415
            import huggingface_hub.utils  # noqa: PLC0415
        except ImportError:
            raise InputError("to_uri", uri, "needs huggingface_hub: `uv sync --extra hf`") from None
        self._hub = huggingface_hub
        huggingface_hub.utils.disable_progress_bars()  # type: ignore[attr-defined]
        self.uri, self.private = uri, private
        self.name = uri.rstrip("/").removeprefix("hf://datasets/")
        self._api = huggingface_hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="galaxy_batch")
        self._files: dict[str, Any] | None = None
        self._unsent: list[tuple[SharedFile, Any]] = []
        self._sent: list[tuple[SharedFile, Any]] = []

    def prepare(self) -> None:
        """Create the repository, unless it is there."""
        with self._answered():
            self._api.create_repo(self.name, repo_type=_KIND, private=self.private, exist_ok=True)

    def names(self) -> set[str]:
        """The names of all files of the repository; none if there is no repository."""
        return set(self._tree())

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none."""
        if name not in self._tree():
            return None
        with self._answered(), tempfile.TemporaryDirectory() as folder:
            path = self._api.hf_hub_download(self.name, name, repo_type=_KIND, local_dir=folder)
            return Path(path).read_bytes()

    def missing(self, files: Iterable[SharedFile]) -> list[SharedFile]:
        """The files that are not there, or with another size or checksum, as the hub says."""
        tree = self._tree()
        return [file for file in files if file.path not in tree or not _is_same(file, tree[file.path])]

    def put(self, file: SharedFile) -> None:
        """Send the content of a file, together with others, and commit them together."""
        self._unsent.append((file, self._hub.CommitOperationAdd(file.path, file.content())))
        if sum(file.size for file, _ in self._unsent) >= _SENT_BYTES or len(self._unsent) >= _COMMIT_FILES:
            self._send()
        in_commit = sum(len(addition.path_or_fileobj) for _, addition in self._sent)  # empty where it was sent
        if len(self._sent) >= _COMMIT_FILES or in_commit >= _COMMIT_BYTES:
            self._commit()

    def finish(self) -> None:
        """Send and commit the rest."""
        self._send()
        self._commit()

    def _send(self) -> None:
        with self._answered():
            self._api.preupload_lfs_files(self.name, [addition for _, addition in self._unsent], repo_type=_KIND)
        self._sent += self._unsent
        self._unsent = []

    def _commit(self) -> None:
        files, additions = [file for file, _ in self._sent], [addition for _, addition in self._sent]
        if not files:
            return
        message = f"Share {files[0].path}" + (f" and {len(files) - 1} more" if len(files) > 1 else "")
        with self._answered():
            self._api.create_commit(self.name, additions, commit_message=message, repo_type=_KIND)
        self._sent, self._files = [], None
        missing = [file.path for file in self.missing(files)]
        if missing:
            raise GateError(f"the hub does not have what was sent: {', '.join(missing[:5])}", {"problems": missing})

    def _tree(self) -> dict[str, Any]:
        if self._files is None:
            with self._answered():
                try:
                    entries = list(self._api.list_repo_tree(self.name, recursive=True, repo_type=_KIND))
                except self._hub.errors.RepositoryNotFoundError:
                    entries = []
            self._files = {entry.path: entry for entry in entries if isinstance(entry, self._hub.hf_api.RepoFile)}
        return self._files

    @contextlib.contextmanager
    def _answered(self) -> Iterator[None]:
        """Errors of the hub as ours: what cannot be done names the setting, the rest can be tried again."""
        errors = self._hub.errors
        try:
            yield
        except errors.LocalTokenNotFoundError:
            raise InputError("to_uri", self.uri, "no credentials: set HF_TOKEN, or run `hf auth login`") from None
        except errors.HfHubHTTPError as error:
            status = getattr(error.response, "status_code", None)
            if status in (401, 403, 404):
                remedy = f"no access ({status}): set HF_TOKEN to a token that may write to this repository"
                raise InputError("to_uri", self.uri, remedy) from None
            raise self._failure(error) from None
        except (OSError, RuntimeError) as error:  # hf_xet raises RuntimeError
            raise self._failure(error) from None
        except Exception as error:
            if is_transient(error):
                raise self._failure(error) from None
            raise

    def _failure(self, error: Exception) -> GateError:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        return GateError(f"the hub failed: {reason}; run the same command again", {"shared_uri": self.uri})


def _is_same(file: SharedFile, entry: Any) -> bool:
    """Whether an entry of the hub's tree has the content of the file."""
    if entry.size != file.size:
        return False
    return bool(entry.lfs.sha256 == file.sha256 if entry.lfs else entry.blob_id == _git_hash(file.content()))


def _git_hash(content: bytes) -> str:
    """The name that git gives to a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
