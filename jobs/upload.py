"""What Ray uploads of a working directory to the cluster."""

import os
from collections import Counter
from pathlib import Path

from ray._private.ray_constants import DASHBOARD_CLIENT_MAX_SIZE
from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

from galaxy_batch.errors import InputError

__all__ = ["NOT_UPLOADED", "check_upload_size", "is_uploaded", "too_large"]

NOT_UPLOADED = ["/.git/", "/.venv/", "/tests/", "/cluster/"]  # in addition to .gitignore and .rayignore

_MAX_BYTES = DASHBOARD_CLIENT_MAX_SIZE  # of a request to the job server; the archive is not compressed
_BYTES_PER_FILE = 76  # headers of a file in the archive, without its path, which is stored twice
_MB = 1024**2


def is_uploaded(file: Path, folder: Path) -> bool:
    """Whether Ray uploads a file of the working directory `folder`.

    Ray excludes what a `.gitignore` or `.rayignore` in `folder` or below names, even if git tracks it.
    """
    return file.relative_to(folder) in _uploaded_files(folder)


def check_upload_size(folder: Path) -> None:
    """Check that the working directory is small enough for the cluster's job server.

    Raises:
        InputError: it is not.
    """
    if sum(_uploaded_files(folder).values()) >= _MAX_BYTES:
        raise too_large(folder, f"the cluster accepts {_MAX_BYTES // _MB} MB")


def too_large(folder: Path, reason: str) -> InputError:
    """The error for a working directory that is too large to upload; it names what to exclude."""
    files = _uploaded_files(folder)
    sizes: Counter[Path] = Counter(files)
    for path, size in files.items():
        for parent in path.parents:
            sizes[parent] += size
    largest, parts = Path(), [path for path in sizes if path.parent == Path() != path]
    while parts:  # go down while one part has most of the bytes, but stop above the files of a folder of pictures
        heaviest = max(parts, key=sizes.__getitem__)
        if largest != Path() and sizes[heaviest] < sizes[largest] / 2:
            break
        largest, parts = heaviest, [path for path in sizes if path.parent == heaviest]
    line = f"/{largest.as_posix()}" + ("" if largest in files else "/")
    kind = "file" if largest in files else "folder"
    total_mb, largest_mb = sizes[Path()] / _MB, sizes[largest] / _MB
    return InputError(
        "working directory", str(folder),
        f"{total_mb:.0f} MB to upload, but {reason}. Largest {kind}: {line} ({largest_mb:.0f} MB). "
        f"Nothing was submitted: exclude what the job does not need, such as with a line {line} in .rayignore",
    )  # fmt: skip


def _uploaded_files(folder: Path) -> dict[Path, int]:
    """Paths relative to `folder`, and bytes in the archive, of the files that Ray uploads."""
    sizes = dict[Path, int]()

    def add(path: Path) -> None:
        if path.is_file():
            name = path.relative_to(folder)
            sizes[name] = path.stat().st_size + _BYTES_PER_FILE + 2 * len(os.fsencode(name))

    honours_git = os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE") != "1"
    _dir_travel(folder, [_get_excludes(folder, NOT_UPLOADED)], add, include_gitignore=honours_git)
    return sizes
