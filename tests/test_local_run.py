"""A run of one chunk, without Ray: in real processes, with real signals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.errors import GateError, InputError
from galaxy_batch.local_run import is_local
from galaxy_batch.pipeline import classify_release
from galaxy_batch.plan import ReleasePlan, plan_release
from galaxy_batch.synthetic.survey import SurveyFiles
from tests.faults.killers import WITH_KILLER, killer_cutout
from tests.support.configs import catalog_config
from tests.support.models import SavedModel, save_random_model
from tests.support.repository import REPOSITORY
from tests.support.skies import read_catalog

ROWS = 1000
CONFIG = """
release = "made-up"
output_uri = "{folder}/out"
checkpoint_uri = "{checkpoint}"
max_failed_fraction = 0.5
[manifest]
uri = "{folder}/objects.csv"
image_column = "image"
[runtime]
num_cpus = 1
engine = "torch"
row_limit_s = {row_limit_s}
"""


def plan_of(survey: SurveyFiles, model: SavedModel, folder: Path, **changed: Any) -> ReleasePlan:
    return plan_release(catalog_config(survey, model, folder, **changed))


def in_one_chunk(**runtime: Any) -> dict[str, Any]:
    return {"classify": {"chunk_rows": 100}, "runtime": {"num_cpus": 2, **runtime}}


def write_survey(folder: Path, model: SavedModel, images: list[bytes], rows: int, row_limit_s: float = 1.0) -> Path:
    """Objects that share these images in turn, and the config of their catalog."""
    for number, image in enumerate(images):
        (folder / f"{number}.img").write_bytes(image)
    lines = [f"{row},{folder}/{row % len(images)}.img" for row in range(rows)]
    (folder / "objects.csv").write_text("\n".join(["object_id,image", *lines]))
    config = folder / "catalog.toml"
    config.write_text(CONFIG.format(folder=folder, checkpoint=model.uri, row_limit_s=row_limit_s))
    return config


def start(config: Path, python_path: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.build_catalog", str(config)],
        cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": python_path or os.environ.get("PYTHONPATH", "")},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def classifying(job: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes of a job, once it classifies."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and job.poll() is None:
        processes = psutil.Process(job.pid).children(recursive=True)
        if any("spawn_main" in " ".join(process.cmdline()) for process in processes):
            return processes
        time.sleep(0.05)
    raise AssertionError("the job has no child process")


@pytest.fixture
def image(survey: SurveyFiles) -> bytes:
    return min(survey.images.iterdir()).read_bytes()


@pytest.mark.usefixtures("ray_started")
def test_the_catalog_is_that_of_a_run_in_ray(survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path) -> None:
    changed = {**in_one_chunk(), "report": {"enabled": True}}
    plans = [plan_of(survey, saved_model, tmp_path / name, **changed) for name in ("here", "ray")]
    here, ray = (classify_release(plan, on_ray) for plan, on_ray in zip(plans, (False, True), strict=True))
    assert read_catalog(here["catalog_uri"]).equals(read_catalog(ray["catalog_uri"]))
    assert verify_catalog(here["catalog_uri"]) == []
    differing = {"seconds", "step_seconds", "catalog_uri", "parts_uri", "report_uri"}
    assert {key: here[key] for key in here.keys() - differing} == {key: ray[key] for key in ray.keys() - differing}
    assert Path(here["report_uri"]).is_file()


def test_only_a_run_of_one_chunk_without_a_gpu_is_local(
    survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert is_local(plan_of(survey, saved_model, tmp_path, **in_one_chunk()))
    assert not is_local(plan_of(survey, saved_model, tmp_path, **in_one_chunk(device="cuda")))
    assert not is_local(plan_of(survey, saved_model, tmp_path, classify={"chunk_rows": 39}))
    first = classify_release(plan_of(survey, saved_model, tmp_path, **in_one_chunk()), on_ray=False)
    reusing = {"release": "next", "reuse_from": first["catalog_uri"]}
    assert not is_local(plan_of(survey, saved_model, tmp_path, **in_one_chunk(), **reusing))
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    assert not is_local(plan_of(survey, saved_model, tmp_path, **in_one_chunk()))
    assert is_local(plan_of(survey, saved_model, tmp_path, **in_one_chunk(device="cpu")))


def test_an_unknown_architecture_is_bad_input(survey: SurveyFiles, tmp_path: Path) -> None:
    model = save_random_model(tmp_path / "model.safetensors", seed=1)
    content = Path(model.uri).read_bytes()
    Path(model.uri).write_bytes(content.replace(b"test_efficientnet", b"test_efficientnix"))
    with pytest.raises(InputError, match="timm has no such model"):
        classify_release(plan_of(survey, model, tmp_path, **in_one_chunk()), on_ray=False)


def test_a_gate_that_fails_keeps_the_part(survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path) -> None:
    changed = {**in_one_chunk(), "max_failed_fraction": 0.0}
    with pytest.raises(GateError, match="4 of 40"):
        classify_release(plan_of(survey, saved_model, tmp_path, **changed), on_ray=False)
    plan = plan_of(survey, saved_model, tmp_path, **in_one_chunk())
    assert plan.todo == ()
    assert classify_release(plan, on_ray=False)["computed_rows"] == 0


@pytest.mark.faults
def test_crashing_cutouts_are_rows_with_a_status(saved_model: SavedModel, image: bytes, tmp_path: Path) -> None:
    images = [image, killer_cutout("SIGSEGV", image), image, killer_cutout("SIGKILL", image), image]
    job = start(write_survey(tmp_path, saved_model, images, rows=5), WITH_KILLER)
    stdout, stderr = job.communicate(timeout=300)
    assert job.returncode == 0, stderr
    summary = json.loads(stdout.splitlines()[-1])
    assert summary["status_counts"] == {"ok": 3, "crashed": 2}
    rows = read_catalog(summary["catalog_uri"])
    assert rows.filter(pa.compute.equal(rows["status"], "crashed"))["object_id"].to_pylist() == [1, 3]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_and_leaves_no_process(
    number: signal.Signals, saved_model: SavedModel, image: bytes, tmp_path: Path
) -> None:
    """SIGINT goes to all processes of the job, as Ctrl-C does."""
    config = write_survey(tmp_path, saved_model, [image], ROWS)
    job = start(config)
    children = classifying(job)
    (os.killpg if number == signal.SIGINT else os.kill)(job.pid, number)
    _, stderr = job.communicate(timeout=100)
    assert job.returncode == 130, stderr
    assert stderr.splitlines()[-1].endswith("interrupted: 0 of 1,000 galaxies are done and kept; run the same command "
                                            "again to go on")  # fmt: skip
    assert "Traceback" not in stderr
    assert psutil.wait_procs(children, timeout=30)[1] == []
    (record,) = [json.loads(file.read_text()) for file in tmp_path.rglob("runs/*.json")]
    assert record["state"] == "interrupted"


@pytest.mark.faults
def test_no_process_survives_a_killed_run_and_the_next_one_is_complete(
    saved_model: SavedModel, image: bytes, tmp_path: Path
) -> None:
    config = write_survey(tmp_path, saved_model, [image], ROWS)
    job = start(config)
    children = classifying(job)
    job.kill()
    assert psutil.wait_procs(children, timeout=100)[1] == []
    _, stderr = job.communicate(timeout=100)
    assert "Traceback" not in stderr
    assert not list(tmp_path.rglob("part-*.parquet"))
    again = start(config)
    stdout, stderr = again.communicate(timeout=200)
    assert again.returncode == 0, stderr
    assert json.loads(stdout.splitlines()[-1])["rows"] == ROWS
