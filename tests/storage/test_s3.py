"""Whole jobs on a real S3 server in real processes, with a log of all requests."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog.manifest import require_manifest, unpublish
from galaxy_batch.catalog.parts import finished_parts
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.compare.config import CompareConfig
from galaxy_batch.compare.series import measure_series
from galaxy_batch.config import CatalogConfig
from galaxy_batch.errors import InputError
from galaxy_batch.pipeline import classify_release
from galaxy_batch.plan import plan_release
from galaxy_batch.settings import load_config
from galaxy_batch.sharing.config import ShareConfig
from galaxy_batch.sharing.share import share_catalog
from galaxy_batch.storage.files import check_writable, join, list_folders, list_names, read_bytes
from galaxy_batch.synthetic.survey import SurveyFiles
from tests.support.jobs import summary_of
from tests.support.models import SavedModel
from tests.support.repository import REPOSITORY
from tests.support.s3_server import S3, SECRET
from tests.support.skies import publish_rows, sky_rows

TOML = """
report.enabled = false                # it reads some cutouts again, and requests are counted here
release = "made-up"
output_uri = "{folder}/out"
checkpoint_uri = "{folder}/model.safetensors"
max_failed_fraction = 0.5
[manifest]
uri = "{folder}/survey/objects.parquet"
ra_column = "ra"
dec_column = "dec"
uri_template = "images/{{object_id}}.jpg"
[classify]
chunk_rows = 8
[runtime]
num_cpus = 1
"""


def run_on_s3(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `build_catalog` in a process configured for the store by these environment variables alone."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "FSSPEC_"))}
    return subprocess.run(
        [sys.executable, "-m", "jobs.build_catalog", *arguments],
        cwd=REPOSITORY, env={**clean, **environment}, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip


def catalog_of(summary: dict[str, Any]) -> pd.DataFrame:
    """All rows of a published catalog, by id."""
    manifest = require_manifest(summary["catalog_uri"])
    contents = (read_bytes(join(summary["catalog_uri"], file.path)) for file in manifest.files)
    tables = [pq.read_table(io.BytesIO(content)) for content in contents]
    return pa.concat_tables(tables).to_pandas().sort_values("object_id").reset_index(drop=True)


def texts_of(s3: S3, process: subprocess.CompletedProcess[str]) -> list[str]:
    """All that a job has said and written, the tables themselves included."""
    return [process.stdout, process.stderr, *(s3.get(name).decode("latin-1") for name in s3.names() if "out/" in name)]


@pytest.fixture
def survey_folder(survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path) -> Path:
    """The survey with a Parquet manifest, and the model, in one folder."""
    (tmp_path / "survey").mkdir()
    (tmp_path / "survey" / "images").symlink_to(survey.images)
    objects = pd.read_csv(survey.manifest, dtype={"object_id": "int64"})
    pq.write_table(pa.Table.from_pandas(objects), tmp_path / "survey" / "objects.parquet", row_group_size=8)
    (tmp_path / "model.safetensors").symlink_to(saved_model.uri)
    return tmp_path


@pytest.mark.usefixtures("ray_started")
def test_a_catalog_on_s3_equals_the_one_on_local_files(s3: S3, survey_folder: Path, tmp_path: Path) -> None:
    for file in [*survey_folder.glob("survey/*.parquet"), *survey_folder.glob("survey/images/*"),
                 survey_folder / "model.safetensors"]:  # fmt: skip
        s3.put(str(file.relative_to(survey_folder)), file.read_bytes())
    (tmp_path / "s3.toml").write_text(TOML.format(folder=s3.uri))
    (tmp_path / "local.toml").write_text(TOML.format(folder=survey_folder))
    s3.proxy.forget()
    for name, times in (("503", 2), ("reset", 1), ("truncated", 1)):
        s3.proxy.fail("images/", name, times)
    s3.proxy.fail("parts/", "500", times=2, method="PUT")

    process = run_on_s3(s3.write_fsspec_config(tmp_path / "fsspec"), str(tmp_path / "s3.toml"))
    assert process.returncode == 0, process.stderr
    summary = summary_of(process)
    asked = list(s3.proxy.requests)
    assert summary["catalog_uri"].startswith(f"{s3.uri}/out/release=made-up/")
    twin = classify_release(plan_release(load_config(CatalogConfig, tmp_path / "local.toml")))
    on_s3, on_disk = catalog_of(summary), catalog_of(twin)
    assert len(on_s3) == 40
    floats = ["p_smooth", "p_featured", "confidence"]
    pd.testing.assert_frame_equal(on_s3.drop(columns=floats), on_disk.drop(columns=floats))
    assert np.allclose(on_s3[floats], on_disk[floats], atol=1e-5, equal_nan=True)
    assert verify_catalog(summary["catalog_uri"]) == []

    images = [r for r in asked if "/images/" in r.path]
    assert {r.method for r in images} == {"GET"}
    assert len({r.path for r in images}) == 40
    assert len(images) == 40 + 4, "each once, and again where it failed"
    written = [r for r in asked if r.method == "PUT" and r.response == "passed"]
    parts = sorted(r.path.rpartition("/")[2].replace("-missing", "") for r in written if "/parts/" in r.path)
    assert parts == [f"part-{number:06d}.parquet" for number in range(5)]
    assert not [r for r in asked if r.method == "PUT" and "partNumber" in r.query], "a multipart upload"
    assert not [r for r in asked if r.method == "POST" and not r.query.startswith("delete")], "more than deletions"
    for text in texts_of(s3, process):
        assert SECRET not in text
        assert s3.proxy.url.removeprefix("http://") not in text, "the endpoint"

    config = load_config(CatalogConfig, tmp_path / "s3.toml")
    assert plan_release(config).published is not None
    part = next(name for name in s3.names() if "/part-000003" in name and "/parts/" in name)
    s3.direct.rm_file(f"{s3.bucket}/{part}")
    unpublish(summary["catalog_uri"])
    again = plan_release(config)
    assert (again.published, [chunk.index for chunk in again.todo]) == (None, [3])
    assert not [name for name in s3.names() if "/catalog/" in name]


@pytest.mark.slow
def test_real_cutouts_on_s3(s3: S3, sky: Path, saved_model: SavedModel, tmp_path: Path) -> None:
    """SDSS DR7, a CSV manifest, endpoint and key from boto's variables."""
    objects = pd.read_csv(sky / "sdss_dr7" / "objects.csv", dtype={"dr7objid": "int64"})
    objects = objects[objects["ra"].notna()].head(30)
    for object_id in objects["dr7objid"]:
        name = f"images/{object_id}.jpeg"
        s3.put(f"dr7/{name}", (sky / "sdss_dr7" / name).read_bytes())
    s3.put("dr7/tables/objects.csv", objects.to_csv(index=False).encode())
    toml = tmp_path / "dr7.toml"
    toml.write_text(f"""
release = "sdss-dr7"
output_uri = "{s3.uri}/out"
checkpoint_uri = "{saved_model.uri}"
[manifest]
uri = "{s3.uri}/dr7/tables/objects.csv"
id_column = "dr7objid"
ra_column = "ra"
dec_column = "dec"
uri_template = "../images/{{dr7objid}}.jpeg"
keep_columns = ["gz1_class"]
[classify]
chunk_rows = 12
[runtime]
num_cpus = 1
engine = "torch"
[report]
enabled = false  # it fetches examples again
""")
    process = run_on_s3(s3.environment, str(toml))
    assert process.returncode == 0, process.stderr
    summary = summary_of(process)
    assert (summary["rows"], summary["status_counts"]) == (30, {"ok": 30})
    catalog = catalog_of(summary)
    assert catalog["object_id"].tolist() == sorted(objects["dr7objid"])
    assert catalog.set_index("object_id")["gz1_class"].to_dict() == objects.set_index("dr7objid")["gz1_class"].to_dict()
    asked = [r for r in s3.proxy.requests if "/images/" in r.path]
    assert {(r.method, r.response) for r in asked} == {("GET", "passed")}
    assert len(asked) == len({r.path for r in asked}) == 30
    for text in texts_of(s3, process):
        assert SECRET not in text
        assert s3.environment["AWS_ACCESS_KEY_ID"] not in text


def test_input_errors_do_not_contain_secrets(s3: S3, saved_model: SavedModel, tmp_path: Path) -> None:
    toml = tmp_path / "bad.toml"
    toml.write_text(TOML.format(folder=s3.uri))

    def error(**changes: str) -> str:
        with pytest.raises(InputError) as caught:
            plan_release(load_config(CatalogConfig, toml, [f"{k.replace('__', '.')}={v}" for k, v in changes.items()]))
        return str(caught.value)

    missing = error(checkpoint_uri=f"{s3.uri}/no/model.safetensors?versionId=secret")
    assert missing == f"checkpoint_uri = '{s3.uri}/no/model.safetensors': no such file; jobs.train_model writes one"
    s3.proxy.fail("model.safetensors", "403")
    assert "cannot be read" in error(checkpoint_uri=f"{s3.uri}/model.safetensors")
    assert "manifest.uri" in error(checkpoint_uri=saved_model.uri)
    s3.put("objects.csv", b"object_id,ra,dec\n1,2,3\n")
    nowhere = error(
        checkpoint_uri=saved_model.uri, manifest__uri=f"{s3.uri}/objects.csv", output_uri="s3://no-such-bucket-here/out"
    )
    assert nowhere.startswith("output_uri = 's3://no-such-bucket-here/out': cannot be written")


def test_check_writable_needs_permission_to_delete(s3: S3) -> None:
    """Some archives' keys may write but not delete."""
    kept = b"<DeleteResult><Error><Key>x</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>"
    s3.proxy.fail("", kept, times=9, method="POST")
    with pytest.raises(InputError, match=f"cannot be deleted: {s3.uri}/out/"):
        check_writable(f"{s3.uri}/out")
    assert len(s3.names()) == 1


def test_missing_credentials_are_a_permission_error(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(PermissionError, match=f"no credentials for {s3.uri}/x"):
        read_bytes(f"{s3.uri}/x?token=secret")
    for list_entries in (list_names, list_folders):
        with pytest.raises(PermissionError, match=f"no credentials for {s3.uri}/x"):
            list_entries(f"{s3.uri}/x")


def test_missing_credentials_for_a_catalog_are_bad_input(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    catalog = str(publish_rows(tmp_path, sky_rows(60)))
    for field, call in (
        ("catalog_uri", lambda: verify_catalog(f"{s3.uri}/x")),
        ("old_uri", lambda: require_manifest(f"{s3.uri}/x", "old_uri")),
        ("series_uri", lambda: measure_series(CompareConfig(output_uri="unused", series_uri=f"{s3.uri}/x"))),
        ("to_uri", lambda: share_catalog(ShareConfig(catalog, f"{s3.uri}/x", with_checkpoint=False))),
    ):
        with pytest.raises(InputError, match=f"{field} = '{s3.uri}/x': cannot be read: no credentials"):
            call()
    assert s3.proxy.asked() == []


def test_resuming_costs_one_listing(s3: S3) -> None:
    """One listing tells which parts exist, however many there are."""
    for number in range(12):
        s3.put(f"parts/m/part-{number:06d}.parquet", b"x")
    assert finished_parts(join(s3.uri, "parts", "m")).keys() == set(range(12))
    assert s3.proxy.asked() == ["GET"]
