"""Broken cutouts drawn by hypothesis: decoding gives pixels or a status, and nothing else."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galaxy_batch.rows import Status
from tests.faults.corpus import seeds
from tests.faults.reader import Reader

SEEDS = seeds()


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    reader = Reader(megabytes=1500, limit_s=60)
    yield reader
    reader.close()


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A good file with pieces replaced, put in or taken out, or cut off."""
    content = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, min(len(content), 1000)) | st.integers(0, len(content)))
        taken = draw(st.integers(0, 64))
        content = content[:at] + draw(st.binary(max_size=64)) + content[at + taken :]
    return content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content


@settings(max_examples=300, deadline=None, derandomize=True)
@given(broken())
def test_any_bytes_are_pixels_or_a_status(reader: Reader, content: bytes) -> None:
    found = reader(content)
    assert found.status in set(Status), found.error
    assert (found.status == "ok") == (found.error == "")
    assert "MemoryError" not in found.error
    assert found.peak_bytes < 700 << 20


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.binary(max_size=2000))
def test_noise_is_no_image(reader: Reader, content: bytes) -> None:
    assert reader(content).status == "unreadable"
