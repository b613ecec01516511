"""A folder and an object store as targets."""

from pathlib import Path

import pytest

from galaxy_batch.errors import GateError, InputError
from galaxy_batch.sharing.files import SharedFile, written_file
from galaxy_batch.sharing.target import FolderTarget
from tests.support.s3_server import S3

FILES = [written_file("README.md", b"# Title"), written_file("catalog/dataset/a.parquet", b"rows")]


@pytest.fixture(params=["folder", "store"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "store":
        store: S3 = request.getfixturevalue("s3")
        return f"{store.uri}/shared"
    return str(tmp_path / "shared")


def put_all(target: FolderTarget, files: list[SharedFile]) -> None:
    target.prepare()
    for file in target.missing(files):
        target.put(file)
    target.finish()


def test_files_are_put_once(uri: str) -> None:
    target = FolderTarget(uri)
    assert target.names() == set()
    assert target.read("README.md") is None
    assert target.missing(FILES) == FILES
    put_all(target, FILES)
    assert target.names() == {"README.md", "catalog/dataset/a.parquet"}
    assert target.read("README.md") == b"# Title"
    assert target.missing(FILES) == []


def test_a_file_with_another_content_is_put_again(uri: str) -> None:
    target = FolderTarget(uri)
    put_all(target, [written_file("README.md", b"# Tilte"), written_file("catalog/dataset/a.parquet", b"row")])
    assert target.missing(FILES) == FILES
    put_all(target, FILES)
    assert target.missing(FILES) == []


def test_a_copy_that_is_not_what_was_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "galaxy_batch.sharing.target.write_atomically", lambda uri, content: Path(uri).write_bytes(content[:-1])
    )
    with pytest.raises(GateError, match=r"README\.md is not what was written"):
        FolderTarget(str(tmp_path)).put(FILES[0])


def test_what_a_killed_run_has_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "catalog" / ".tmp-a.parquet-0123"
    left.parent.mkdir()
    left.write_bytes(b"ro")
    target = FolderTarget(str(tmp_path))
    assert target.names() == set()
    target.prepare()
    assert not left.exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        FolderTarget(str(tmp_path / "file" / "shared")).prepare()
