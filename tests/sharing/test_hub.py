"""A repository of the Hugging Face hub as target, against a stand-in of the hub."""

import pytest

from galaxy_batch.errors import GateError, InputError
from galaxy_batch.sharing import hub as hub_module
from galaxy_batch.sharing.files import SharedFile, written_file
from galaxy_batch.sharing.hub import HubTarget
from tests.support.hub_server import HubServer

URI, NAME = "hf://datasets/me/galaxies", "me/galaxies"
FILES = [
    written_file("README.md", b"---\nlicense: cc-by-4.0\n---\n\n# Title\n"),
    *(written_file(f"catalog/dataset/{number}.parquet", b"%d\0" % number * 3000) for number in range(30)),
    written_file("catalog/dataset/large.parquet", bytes(range(256)) * 500),  # in several parts
]


@pytest.fixture(params=["lfs", "xet"])
def target(request: pytest.FixtureRequest, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubTarget:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", request.param == "lfs")
    return HubTarget(URI, private=True)


def put_all(target: HubTarget, files: list[SharedFile]) -> list[str]:
    """Put what is missing; the names of it."""
    target.prepare()
    missing = target.missing(files)
    for file in missing:
        target.put(file)
    target.finish()
    return [file.path for file in missing]


def test_files_are_put_once(target: HubTarget, hub: HubServer) -> None:
    assert target.names() == set()
    assert put_all(target, FILES) == [file.path for file in FILES]
    assert hub.repositories[NAME].private
    assert target.names() - target.ours == {file.path for file in FILES}
    assert len(hub.repositories[NAME].commits) == 1
    assert target.read("README.md") == FILES[0].written
    assert target.read("catalog/manifest.json") is None
    if hub.in_shards:
        assert hub.asked("PUT", "/lfs/") == 0
        assert hub.xet_bytes > 0
    else:
        assert [hub.content(NAME, file.path) for file in FILES] == [file.written for file in FILES]
    later = HubTarget(URI, private=True)
    assert put_all(later, FILES) == []
    assert len(hub.repositories[NAME].commits) == 1


def test_only_what_changed_is_committed(target: HubTarget, hub: HubServer) -> None:
    put_all(target, FILES)
    changed = [written_file(FILES[0].path, b"# Other"), written_file(FILES[1].path, b"\0" * 10), *FILES[2:]]
    assert put_all(target, changed) == [FILES[0].path, FILES[1].path]
    assert hub.repositories[NAME].commits[1] == sorted([FILES[0].path, FILES[1].path])


def test_many_files_are_several_commits(target: HubTarget, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "_COMMIT_FILES", 10)
    put_all(target, FILES)
    assert [len(paths) for paths in hub.repositories[NAME].commits] == [10, 10, 10, 2]


def test_an_interrupted_upload_continues(target: HubTarget, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "_COMMIT_FILES", 10)
    commits = 0

    def third_commit(method: str, path: str) -> int | None:
        nonlocal commits
        commits += "/commit/" in path
        return 400 if "/commit/" in path and commits == 3 else None

    hub.before = third_commit
    with pytest.raises(GateError, match="run the same command again"):
        put_all(target, FILES)
    assert len(put_all(HubTarget(URI, private=True), FILES)) == 12


@pytest.mark.parametrize("path", ["README.md", "catalog/dataset/3.parquet"])
def test_what_the_hub_has_is_compared(target: HubTarget, hub: HubServer, path: str) -> None:
    hub.altered = {path}
    with pytest.raises(GateError, match=f"does not have what was sent: {path}"):
        put_all(target, FILES)


def test_without_access_nothing_is_sent(target: HubTarget, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_another0000000000000000000000000")
    with pytest.raises(InputError) as raised:
        put_all(target, FILES)
    assert raised.value.field == "to_uri"
    assert "HF_TOKEN" in raised.value.remedy
    assert "hf_another" not in str(raised.value)
    assert hub.repositories == {}
