import os
from pathlib import Path

import fsspec
import pytest

from galaxy_batch import storage
from galaxy_batch.errors import InputError


def test_a_write_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = str(tmp_path / "a" / "b.bin")
    storage.write_atomically(target, b"first")
    storage.write_atomically(target, b"second")
    assert storage.read_bytes(target) == b"second"

    def full(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        storage.write_atomically(target, b"third")
    assert storage.read_bytes(target) == b"second"
    assert storage.list_names(str(tmp_path / "a")) == ["b.bin"]
    assert os.listdir(tmp_path / "a") == ["b.bin"]


def test_unfinished_writes_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / ".tmp-part-000001.parquet-x").write_bytes(b"half")
    (tmp_path / "part-000000.parquet").write_bytes(b"whole")
    assert storage.list_names(str(tmp_path)) == ["part-000000.parquet"]
    assert storage.list_names(str(tmp_path / "nowhere")) == []


def test_heads_come_in_order_from_several_stores_and_failures_are_values(tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe("/heads/m.bin", b"0123456789")
    (tmp_path / "f.bin").write_bytes(b"abcdefghij")
    (tmp_path / "empty.bin").write_bytes(b"")
    uris = [
        str(tmp_path / "f.bin"), "memory://heads/m.bin", str(tmp_path / "none"), str(tmp_path / "empty.bin"),
        "memory://heads/none", "nosuchscheme://x/y", str(tmp_path), str(tmp_path / "nul\0"),
    ]  # fmt: skip
    heads = storage.read_heads(uris, limit=4)
    assert heads[0] == b"abcd"
    assert heads[1] == b"0123"
    assert isinstance(heads[2], FileNotFoundError)
    assert heads[3] == b""
    assert isinstance(heads[4], FileNotFoundError)
    assert isinstance(heads[5], InputError)
    assert isinstance(heads[6], IsADirectoryError)
    assert isinstance(heads[7], ValueError)


def test_checking_an_output_leaves_nothing_behind(tmp_path: Path) -> None:
    storage.check_writable(str(tmp_path / "a"))
    assert os.listdir(tmp_path / "a") == []
    (tmp_path / "f").write_text("x")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        storage.check_writable(str(tmp_path / "f"))


def test_an_unknown_scheme_is_explained() -> None:
    with pytest.raises(InputError, match="no driver for this scheme"):
        storage.filesystem("nosuchscheme://bucket/x")


def test_removing_what_is_not_there_is_fine(tmp_path: Path) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    storage.remove_tree(str(tmp_path / "x"))
    storage.remove_tree(str(tmp_path / "x"))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://key:secret@host/bucket/x", "s3://host/bucket/x"),
        ("https://host/x.csv?X-Amz-Signature=abc#f", "https://host/x.csv"),
        ("/local/path?#", "/local/path?#"),
    ],
)
def test_secrets_are_not_shown(uri: str, shown: str) -> None:
    assert storage.without_secrets(uri) == shown


def test_join() -> None:
    assert storage.join("s3://b/x/", "y", "z") == "s3://b/x/y/z"
