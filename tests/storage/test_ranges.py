"""Files of which only parts are read."""

import io
import os
from pathlib import Path

import fsspec
import numpy as np
import pytest

from galaxy_batch.errors import InputError
from galaxy_batch.storage import downloads, ranges
from galaxy_batch.storage.ranges import RangedFile
from tests.support.s3_server import S3

CONTENT = np.random.default_rng(0).bytes(1_000_000)


@pytest.fixture(params=["local", "memory", "s3", "http"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same file in several stores."""
    if request.param == "local":
        (tmp_path / "x.bin").write_bytes(CONTENT)
        return str(tmp_path / "x.bin")
    if request.param == "memory":
        fsspec.filesystem("memory").pipe("/ranges/x.bin", CONTENT)
        return "memory://ranges/x.bin"
    s3: S3 = request.getfixturevalue("s3")
    stored = s3.put("x.bin", CONTENT)
    return stored if request.param == "s3" else stored.replace(s3.uri, s3.http_url)


def test_reads_are_those_of_a_file(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "_BLOCK_BYTES", 1000)
    monkeypatch.setattr(ranges, "_BLOCKS", 3)
    monkeypatch.setattr(downloads, "_RANGE_BYTES", 4096)
    expected, file = io.BytesIO(CONTENT), RangedFile(uri)
    rng = np.random.default_rng(1)
    starts = [*rng.integers(0, len(CONTENT), 20), 0, len(CONTENT) - 5, len(CONTENT), len(CONTENT) + 5000]
    for start in starts:
        for size in (0, 1, 80, 999, 2880, 20_000):
            assert file.seek(start) == expected.seek(start)
            assert file.read(size) == expected.read(size)
            assert file.tell() == expected.tell()
    assert file.seek(10) == 10
    assert file.seek(5, os.SEEK_CUR) == 15
    assert file.read(3) == CONTENT[15:18]
    assert file.error is None


def test_small_reads_share_a_request(s3: S3) -> None:
    file = RangedFile(s3.put("x.bin", CONTENT))
    for start in range(0, 28_800, 2880):
        file.seek(start)
        assert file.read(2880) == CONTENT[start : start + 2880]
    assert [request.range for request in s3.proxy.requests] == [f"bytes=0-{(256 << 10) - 1}"]


def test_the_last_error_of_the_store_is_kept(tmp_path: Path) -> None:
    file = RangedFile(str(tmp_path / "none.bin"))
    with pytest.raises(FileNotFoundError):
        file.read(10)
    assert isinstance(file.error, FileNotFoundError)
    with pytest.raises(InputError, match="no driver"):
        RangedFile("nosuchscheme://x")


def test_the_whole_file_is_never_read(uri: str) -> None:
    with pytest.raises(io.UnsupportedOperation):
        RangedFile(uri).read()
