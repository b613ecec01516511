import os
import stat
from pathlib import Path

import pytest

from galaxy_batch.model.engines import choose, conversion, network_cache
from galaxy_batch.model.engines.choose import converted_network
from galaxy_batch.model.engines.network_cache import cached_network, keep_network
from galaxy_batch.model.engines.openvino import OpenVinoEngine
from galaxy_batch.model.saved_model import load_checkpoint
from tests.support.engines import close, computed, expected, pixels_of
from tests.support.models import SavedModel


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GALAXY_BATCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "networks"


def network_of(length: int) -> bytes:
    import io
    import zipfile

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("network.bin", os.urandom(length))
    return archive.getvalue()


def test_a_network_is_converted_once_and_the_kept_one_gives_the_same_output(
    saved_model: SavedModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = converted_network(saved_model.uri, 2)
    monkeypatch.setattr(conversion, "converted", lambda *_: pytest.fail("converted again"))
    kept = converted_network(saved_model.uri, 2)
    assert kept == first
    pixels = pixels_of(2)
    outputs = [computed(OpenVinoEngine(network, "fp32", 1), pixels) for network in (first, kept)]
    assert all((one == other).all() for one, other in zip(outputs[0][:1], outputs[1][:1], strict=True))
    assert close(outputs[1], expected(load_checkpoint(saved_model.uri)[1], pixels), atol=1e-4)


def test_a_damaged_file_is_not_used(folder: Path) -> None:
    assert cached_network("0123", 1) is None
    keep_network("0123", 1, network := network_of(4000))
    assert cached_network("0123", 1) == network
    assert cached_network("0123", 2) is None
    (file,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for damaged in (network[:2000] + bytes([network[2000] ^ 1]) + network[2001:], network[:2000], b""):
        file.write_bytes(damaged)
        assert cached_network("0123", 1) is None
    keep_network("0123", 1, network)
    assert cached_network("0123", 1) == network


def test_networks_of_other_code_or_versions_are_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_network("0123", 1, network_of(10))
    monkeypatch.setattr(network_cache, "_code_and_versions", lambda: "later")
    assert cached_network("0123", 1) is None


def test_the_cache_has_a_largest_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_cache, "_MAX_BYTES", 10_000)
    for number in range(4):
        keep_network(f"{number}", 1, network_of(3000))
        for age, file in enumerate(sorted(folder.iterdir())[::-1]):
            os.utime(file, (1000 - age, 1000 - age))
    assert [cached_network(f"{number}", 1) is not None for number in range(4)] == [False, True, True, True]


def test_without_a_usable_folder_nothing_is_kept(
    saved_model: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GALAXY_BATCH_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(conversion, "converted", lambda *_: b"a network")
    assert choose.converted_network(saved_model.uri, 1) == b"a network"
    assert cached_network(saved_model.checkpoint.checkpoint_id, 1) is None
