"""A catalog is shared: to a folder, an object store and the hub, with everything that can go wrong."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.errors import GateError, InputError
from galaxy_batch.model import checkpoint as checkpoint_module
from galaxy_batch.model.checkpoint import CheckpointFile
from galaxy_batch.sharing import share
from galaxy_batch.sharing.config import ShareConfig, ShareMetadata
from galaxy_batch.sharing.share import share_catalog
from galaxy_batch.sharing.target import FolderTarget
from tests.support.hub_server import TOKEN, HubServer
from tests.support.jobs import CallJob, summary_of
from tests.support.models import SavedModel
from tests.support.repository import REPOSITORY
from tests.support.s3_server import S3, SECRET
from tests.support.shared_catalogs import ABOUT, change_manifest, contents, copied
from tests.support.skies import publish_rows, sky_rows

DOCUMENTS = {"README.md", "croissant.json", "CITATION.cff", ".zenodo.json", "share.json"}


def config_of(catalog: Path, to: Path | str, about: ShareMetadata = ABOUT, **changes: Any) -> ShareConfig:
    return ShareConfig(str(catalog), str(to), about, **{"with_checkpoint": False, **changes})


def test_a_folder_gets_everything(collection: Path, tmp_path: Path) -> None:
    to = tmp_path / "shared"
    summary = share_catalog(config_of(collection, to))
    there, source = contents(to), contents(collection.parent)
    parts = ("catalog/", "margin_10arcs/", "index_object_id/", "collection.properties")
    expected = {name: sha256 for name, sha256 in source.items() if name.startswith(parts)}
    assert there.keys() == expected.keys() | DOCUMENTS
    assert {name: there[name] for name in expected} == expected
    assert verify_catalog(str(to / "catalog")) == []
    assert 'lsdb.open_catalog(".")' in (to / "README.md").read_text()
    assert summary["files"] == summary["copied"] == len(there)
    assert summary["not_given"] == []


def test_sharing_twice_changes_nothing(sky_catalog: Path, tmp_path: Path) -> None:
    to = tmp_path / "shared"
    share_catalog(config_of(sky_catalog, to))
    before = {path: path.stat().st_mtime_ns for path in to.rglob("*") if path.is_file()}
    summary = share_catalog(config_of(sky_catalog, to))
    assert (summary["copied"], summary["unchanged"]) == (0, len(before))
    assert {path: path.stat().st_mtime_ns for path in to.rglob("*") if path.is_file()} == before


def test_a_folder_inside_the_catalog_is_refused_also_through_a_link(sky_catalog: Path, tmp_path: Path) -> None:
    catalog, link = copied(sky_catalog, tmp_path), tmp_path / "link"
    link.symlink_to(catalog)
    for to in (link / "shared", f"{catalog.parent}/../{catalog.parent.name}/catalog/shared"):
        with pytest.raises(InputError, match=r"to_uri = .*inside the catalog's folder"):
            share_catalog(config_of(catalog, to))
    assert verify_catalog(str(catalog)) == []


def test_a_target_that_is_a_file_or_cannot_be_written_is_refused(sky_catalog: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(InputError, match=r"to_uri = .*/file': is not empty \(it is a file\)"):
        share_catalog(config_of(sky_catalog, file))
    with pytest.raises(InputError, match=r"to_uri = .*/file/below': cannot be written"):
        share_catalog(config_of(sky_catalog, file / "below"))


@pytest.mark.parametrize("field", ["to_uri", "checkpoint_uri"])
def test_what_cannot_be_written_or_read_is_refused_before_the_catalog_is_verified(
    sky_catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    monkeypatch.setattr(share, "verify_catalog", lambda uri: pytest.fail("verified first"))
    (tmp_path / "file").write_text("")
    to = tmp_path / ("file/below" if field == "to_uri" else "shared")
    with pytest.raises(InputError) as raised:
        share_catalog(config_of(sky_catalog, to, with_checkpoint=field == "checkpoint_uri"))
    assert raised.value.field == field


def test_what_people_say_later_changes_documents_only(sky_catalog: Path, tmp_path: Path) -> None:
    to = tmp_path / "shared"
    share_catalog(config_of(sky_catalog, to, ShareMetadata()))
    assert not (to / "CITATION.cff").exists()
    summary = share_catalog(config_of(sky_catalog, to))
    assert summary["copied"] == 4
    assert ABOUT.title in (to / "README.md").read_text()


def test_the_checkpoint_comes_with_its_card(classified: Path, saved_model: SavedModel, tmp_path: Path) -> None:
    to = tmp_path / "shared"
    share_catalog(config_of(classified, to, with_checkpoint=True))
    assert (to / "model/model.safetensors").read_bytes() == Path(saved_model.uri).read_bytes()
    assert f"# Model card: {saved_model.checkpoint.checkpoint_id}" in (to / "model/README.md").read_text()
    assert "[`model/`](model/README.md)" in (to / "README.md").read_text()
    objects = json.loads((to / "croissant.json").read_text())["distribution"]
    assert objects[1]["sha256"] == contents(to)["model/model.safetensors"]


@pytest.mark.parametrize("kind", ["gone", "another"])
def test_a_checkpoint_that_is_not_there_or_another(
    classified: Path, saved_model: SavedModel, tmp_path: Path, kind: str
) -> None:
    uri = str(tmp_path / "model.safetensors") if kind == "gone" else "builtin:gz2-smooth-featured"
    with pytest.raises(InputError, match="with_checkpoint = false") as raised:
        share_catalog(config_of(classified, tmp_path / "shared", with_checkpoint=True, checkpoint_uri=uri))
    assert raised.value.field == "checkpoint_uri"
    assert not (tmp_path / "shared").exists()


@pytest.mark.parametrize("state", ["unpublished", "damaged", "with a foreign file"])
def test_a_catalog_that_is_not_one_is_refused(sky_catalog: Path, tmp_path: Path, state: str) -> None:
    catalog = copied(sky_catalog, tmp_path)
    if state == "unpublished":
        (catalog / "manifest.json").unlink()
    elif state == "damaged":
        file = next(catalog.rglob("*.parquet"))
        file.write_bytes(file.read_bytes()[:-1])
    else:
        (catalog / "dataset" / "notes.txt").write_text("")
    with pytest.raises(InputError if state == "unpublished" else GateError):
        share_catalog(config_of(catalog, tmp_path / "shared"))
    assert not (tmp_path / "shared").exists()


def test_credentials_in_the_manifest_are_refused(sky_catalog: Path, tmp_path: Path) -> None:
    catalog = copied(sky_catalog, tmp_path)
    change_manifest(catalog, survey="https://me:secret@host/objects.csv")
    with pytest.raises(InputError, match="credentials") as raised:
        share_catalog(config_of(catalog, tmp_path / "shared"))
    assert "secret" not in str(raised.value)


def test_credentials_in_what_people_say_are_refused(sky_catalog: Path, tmp_path: Path) -> None:
    about = ShareMetadata(acknowledgement="See https://host/page?access_token=secret for more.")
    with pytest.raises(InputError, match=r"credentials are in README\.md") as raised:
        share_catalog(config_of(sky_catalog, tmp_path / "shared", about))
    assert "secret" not in str(raised.value)
    assert not (tmp_path / "shared").exists()


def test_credentials_in_a_checkpoint_are_refused(
    classified: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_checkpoint(uri: str) -> CheckpointFile:
        file = checkpoint_module.read_checkpoint(uri)
        training = {"verdicts": {"tables": [{"uri": "https://me:secret@host/reviewed.parquet"}]}}
        return dataclasses.replace(file, checkpoint=dataclasses.replace(file.checkpoint, training=training))

    monkeypatch.setattr(share, "read_checkpoint", read_checkpoint)
    with pytest.raises(InputError, match="credentials are in its metadata") as raised:
        share_catalog(config_of(classified, tmp_path / "shared", with_checkpoint=True))
    assert raised.value.field == "checkpoint_uri"
    assert "secret" not in str(raised.value)


def test_no_document_names_a_place_on_this_machine(
    classified: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    to = tmp_path / "shared"
    share_catalog(config_of(classified, to, with_checkpoint=True))
    for name in (*DOCUMENTS, "model/README.md"):
        assert str(classified.parents[3]) not in (to / name).read_text()
    assert "its column image_uri has places on this machine" in caplog.text


@pytest.mark.parametrize("what", ["another catalog", "files of somebody", "an unreadable record"])
def test_a_target_that_holds_something_else_is_refused(sky_catalog: Path, tmp_path: Path, what: str) -> None:
    to = tmp_path / "shared"
    if what == "another catalog":
        share_catalog(config_of(publish_rows(tmp_path / "other", sky_rows(50, seed=9)), to))
    else:
        to.mkdir()
        (to / ("notes.txt" if what == "files of somebody" else "share.json")).write_text("{}")
    before = contents(to)
    with pytest.raises(InputError) as raised:
        share_catalog(config_of(sky_catalog, to))
    assert raised.value.field == "to_uri"
    assert contents(to) == before


def test_a_catalog_that_changes_meanwhile_is_not_shared(
    sky_catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = copied(sky_catalog, tmp_path)
    put = FolderTarget.put

    def publish_again(self: FolderTarget, file: Any) -> None:
        put(self, file)
        if file.path == "share.json":
            change_manifest(catalog, run_id="another")

    monkeypatch.setattr(FolderTarget, "put", publish_again)
    with pytest.raises(GateError, match="published again meanwhile"):
        share_catalog(config_of(catalog, tmp_path / "shared"))
    assert not (tmp_path / "shared" / "catalog" / "manifest.json").exists()


def test_the_manifest_is_copied_last(sky_catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    put = FolderTarget.put
    monkeypatch.setattr(FolderTarget, "put", lambda self, file: (names.append(file.path), put(self, file))[1])
    share_catalog(config_of(sky_catalog, tmp_path / "shared"))
    assert (names[0], names[-1]) == ("share.json", "catalog/manifest.json")


def test_an_interruption_ends_the_copy(sky_catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def interrupt(self: FolderTarget, file: Any) -> None:
        tried.append(file.path)
        if file.path != "share.json":
            time.sleep(0.05)
            raise KeyboardInterrupt

    monkeypatch.setattr(FolderTarget, "put", interrupt)
    with pytest.raises(KeyboardInterrupt):
        share_catalog(config_of(sky_catalog, tmp_path / "shared"))
    assert len(tried) < 15, "the files that wait are not copied any more"


def test_other_files_at_the_target_are_named(
    sky_catalog: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    to = tmp_path / "shared"
    share_catalog(config_of(sky_catalog, to))
    (to / "notes.txt").write_text("")
    share_catalog(config_of(sky_catalog, to))
    assert "1 other files are there too: notes.txt" in caplog.text


def test_an_object_store(sky_catalog: Path, s3: S3) -> None:
    to = f"{s3.uri}/shared"
    share_catalog(config_of(sky_catalog, to))
    assert verify_catalog(f"{to}/catalog") == []
    puts = [request.path for request in s3.proxy.requests if request.method == "PUT"]
    assert puts[-1].endswith("/catalog/manifest.json")
    s3.proxy.forget()
    assert share_catalog(config_of(sky_catalog, to))["copied"] == 0
    assert not s3.proxy.reached("/shared/catalog", "PUT")
    documents = [s3.direct.cat_file(f"{s3.bucket}/shared/{name}").decode() for name in DOCUMENTS]
    assert not any(SECRET in text for text in documents)


def test_a_store_that_fails_now_and_then(sky_catalog: Path, s3: S3) -> None:
    to = f"{s3.uri}/shared"
    s3.proxy.sprinkle("/shared/catalog", ["500", "503", "reset", "lost"], share=0.3, seed=3, method="PUT", most=1)
    share_catalog(config_of(sky_catalog, to))
    assert s3.proxy.played() > 3
    s3.proxy.forget()
    assert verify_catalog(f"{to}/catalog") == []


def test_a_catalog_of_an_object_store(sky_catalog: Path, s3: S3, tmp_path: Path) -> None:
    s3.direct.put(str(sky_catalog), f"{s3.bucket}/release/catalog", recursive=True)
    share_catalog(config_of(f"{s3.uri}/release/catalog", tmp_path / "shared"))  # type: ignore[arg-type]
    assert verify_catalog(str(tmp_path / "shared" / "catalog")) == []


def test_the_hub(classified: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    summary = share_catalog(config_of(classified, "hf://datasets/me/galaxies", with_checkpoint=True))
    assert summary["url"] == "https://huggingface.co/datasets/me/galaxies"
    repository = hub.repositories["me/galaxies"]
    assert [repository.commits[0], repository.commits[-1]] == [["share.json"], ["catalog/manifest.json"]]
    for name, sha256 in contents(classified).items():
        file = repository.files[f"catalog/{name}"]
        assert file.sha256 in (sha256, None)
        assert hub.content("me/galaxies", f"catalog/{name}") == (classified / name).read_bytes()
    assert not any(TOKEN.encode() in content for content in hub.contents.values())
    assert share_catalog(config_of(classified, "hf://datasets/me/galaxies", with_checkpoint=True))["copied"] == 0
    hub.add("me/galaxies", "share.json", b"{}")
    with pytest.raises(InputError, match="another catalog"):
        share_catalog(config_of(classified, "hf://datasets/me/galaxies"))


def test_a_repository_with_files_is_refused(sky_catalog: Path, hub: HubServer) -> None:
    to = "hf://datasets/me/galaxies"
    share.HubTarget(to, private=False).prepare()
    hub.add("me/galaxies", "README.md", b"# Mine")
    with pytest.raises(InputError, match=r"is not empty \(README\.md\)"):
        share_catalog(config_of(sky_catalog, to))
    assert hub.content("me/galaxies", "README.md") == b"# Mine"


def start_job(catalog: Path, to: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "jobs.share_catalog", str(catalog), "--to", to, "--set", "with_checkpoint=false"]
    return subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )


def finish_job(catalog: Path, to: str) -> dict[str, Any]:
    job = start_job(catalog, to)
    stdout, stderr = job.communicate(timeout=120)
    assert job.returncode == 0, stderr
    return json.loads(stdout.splitlines()[-1])  # type: ignore[no-any-return]


def test_a_killed_job_continues_on_a_store(sky_catalog: Path, s3: S3) -> None:
    to = f"{s3.uri}/shared"
    jobs: list[subprocess.Popen[str]] = []
    s3.proxy.when("/shared/catalog", 12, lambda: os.kill(jobs[0].pid, signal.SIGKILL), done=True)
    jobs.append(start_job(sky_catalog, to))
    jobs[0].communicate(timeout=120)
    assert jobs[0].returncode == -signal.SIGKILL
    assert not s3.direct.exists(f"{s3.bucket}/shared/catalog/manifest.json")
    written = {path for path, times in s3.proxy.reached("/shared/", "PUT").items() if times}
    s3.proxy.forget()
    summary = finish_job(sky_catalog, to)
    again = set(s3.proxy.reached("/shared/", "PUT"))
    assert summary["unchanged"] >= 10
    assert not [path for path in written & again if "/.tmp-" not in path]
    assert verify_catalog(f"{to}/catalog") == []


def test_a_killed_job_continues_in_a_folder(sky_catalog: Path, tmp_path: Path) -> None:
    to = tmp_path / "shared"
    job = start_job(sky_catalog, str(to))
    while job.poll() is None and len(list(to.rglob("*.parquet"))) < 5:
        time.sleep(0.001)
    job.kill()
    job.communicate(timeout=60)
    finished = (to / "catalog" / "manifest.json").exists()
    summary = finish_job(sky_catalog, str(to))
    assert summary["unchanged"] >= 5
    assert finished == (summary["copied"] == 0)
    assert verify_catalog(str(to / "catalog")) == []
    assert not [path for path in to.rglob("*") if path.name.startswith(".tmp-")]


def test_a_killed_job_continues_on_the_hub(sky_catalog: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    to, jobs, commits = "hf://datasets/me/galaxies", [], 0

    def kill_at_the_second_commit(method: str, path: str) -> int | None:
        nonlocal commits
        commits += "/commit/" in path
        if "/commit/" in path and commits == 2:
            jobs[0].kill()
            jobs[0].wait(60)
            return 500
        return None

    hub.before = kill_at_the_second_commit
    jobs.append(start_job(sky_catalog, to))
    jobs[0].communicate(timeout=120)
    assert jobs[0].returncode == -signal.SIGKILL
    assert hub.repositories["me/galaxies"].commits == [["share.json"]]
    sent = hub.asked("PUT", "/lfs/")
    summary = finish_job(sky_catalog, to)
    assert summary["unchanged"] == 1
    assert sent > 5
    assert hub.asked("PUT", "/lfs/") == sent, "large files that were sent are not sent again"
    assert "catalog/manifest.json" in hub.repositories["me/galaxies"].files


def test_the_job(sky_catalog: Path, tmp_path: Path, call_job: CallJob) -> None:
    config = tmp_path / "share.toml"
    config.write_text(
        f'catalog_uri = "{sky_catalog}"\nto_uri = "{tmp_path}/shared"\nwith_checkpoint = false\n'
        '[share]\nlicense = "CC0-1.0"\n[[share.authors]]\nfamily_names = "Carberry"\n'
    )
    done = call_job("share_catalog", str(config))
    assert done.code == 0
    assert summary_of(done)["not_given"] == ["title", "description"]  # type: ignore[arg-type]
    assert "only people know these, and they are not written: share.title, share.description" in done.log
    wrong = call_job("share_catalog", str(config), "--set", "share.license=CC")
    assert wrong.code == 2
    assert re.search(r"share\.license = 'CC': not an SPDX licence identifier", wrong.log)
    (sky_catalog / "notes.txt").write_text("")
    try:
        failed = call_job("share_catalog", str(config))
    finally:
        (sky_catalog / "notes.txt").unlink()
    assert failed.code == 3
    assert "does not verify" in failed.log
