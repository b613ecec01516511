"""The jobs as a user runs them: processes, exit codes, the summary line."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from galaxy_batch.synthetic import SurveyFiles
from tests.conftest import REPOSITORY, SavedModel

CATALOG = """
release = "made-up"
output_uri = "{output}"
checkpoint_uri = "{checkpoint}"
max_failed_fraction = 0.5
[manifest]
uri = "{manifest}"
ra_column = "ra"
dec_column = "dec"
uri_template = "images/{{object_id}}.jpg"
[classify]
chunk_rows = 8
[runtime]
num_cpus = 1
"""


def run(job: str, *arguments: str, timeout: float = 150) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"jobs.{job}", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def summary_of(process: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(process.stdout.strip().splitlines()[-1])
    return found


@pytest.fixture
def config(tmp_path: Path, survey: SurveyFiles, saved_model: SavedModel) -> Path:
    file = tmp_path / "catalog.toml"
    file.write_text(CATALOG.format(output=tmp_path / "out", checkpoint=saved_model.uri, manifest=survey.manifest))
    return file


def test_build_catalog_on_one_cpu_and_again(config: Path) -> None:
    first = run("build_catalog", str(config))
    assert first.returncode == 0, first.stderr
    summary = summary_of(first)
    assert {"catalog_uri", "rows", "failed", "flagged", "seconds"} <= summary.keys()
    assert (summary["rows"], summary["failed"]) == (40, 4)
    assert len(pq.read_table(f"{summary['catalog_uri']}/dataset")) == 40
    assert "40 of 40 galaxies (100%)" in first.stderr
    again = run("build_catalog", str(config))
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stderr
    assert summary_of(again)["already_published"]


def test_too_many_failures_exit_with_3_and_a_summary(config: Path) -> None:
    process = run("build_catalog", str(config), "--set", "max_failed_fraction=0.01")
    assert process.returncode == 3, process.stderr
    assert "4 of 40 cutouts have no class" in process.stderr
    assert "Traceback" not in process.stderr
    assert summary_of(process)["catalog_uri"] is None
    assert Path(summary_of(process)["parts_uri"]).is_dir()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["relase=x"], "relase = 'x': unknown key; did you mean release?"),
        (["classify.chunk_rows=many"], "must be of type int"),
        (["review.audit_fraction=2"], "must be between 0 and 1"),
        (["manifest.id_column=nope"], "no such column"),
        (["manifest.uri=/nowhere.csv"], "no such file"),
        (["checkpoint_uri=pyproject.toml"], "not a galaxy_batch checkpoint"),
        (["checkpoint_uri=/nowhere.safetensors"], "no such file"),
        (["output_uri=/proc/nowhere"], "cannot be written"),
        (["output_uri=nosuchscheme://x"], "no driver for this scheme"),
    ],
)
def test_bad_input_exits_with_2_before_ray_starts(config: Path, overrides: list[str], message: str) -> None:
    process = run("build_catalog", str(config), *(word for o in overrides for word in ("--set", o)), timeout=60)
    assert process.returncode == 2, process.stderr
    assert message in process.stderr
    assert "Traceback" not in process.stderr
    assert "ray" not in process.stderr.lower().replace(str(REPOSITORY).lower(), "")
    assert process.stdout == ""


def test_duplicate_ids_are_named(config: Path, survey: SurveyFiles, tmp_path: Path) -> None:
    lines = survey.manifest.read_text().splitlines()
    (tmp_path / "doubled.csv").write_text("\n".join([*lines, lines[1]]) + "\n")
    process = run("build_catalog", str(config), "--set", f"manifest.uri={tmp_path / 'doubled.csv'}")
    assert process.returncode == 2
    assert f"1 ids stand in more than one row: {lines[1].split(',')[0]}" in process.stderr


@pytest.mark.parametrize("job", ["build_catalog", "train_model"])
def test_no_config_no_run(job: str) -> None:
    process = run(job, "nowhere.toml", timeout=60)
    assert process.returncode == 2
    assert "no such file" in process.stderr
    assert run(job, timeout=60).returncode == 2


def test_nothing_outlives_a_job_even_one_that_is_killed(config: Path) -> None:
    before = ray_processes()
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.build_catalog", str(config)],
        cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (ray_processes() - before) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ray_processes() - before, "Ray was never seen running"
    time.sleep(2)
    process.kill()
    process.wait(30)
    while ray_processes() - before and time.monotonic() < deadline + 60:
        time.sleep(0.5)
    assert not ray_processes() - before


def ray_processes() -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except (FileNotFoundError, ProcessLookupError):
                continue
            program = os.path.basename(words[0])
            if state != "Z" and (program in (b"raylet", b"gcs_server") or words[0].startswith(b"ray::")):
                found.add(int(entry.name))
    return found
