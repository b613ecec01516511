"""Jobs as processes: exit codes, messages and the summary line."""

import contextlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from galaxy_batch.synthetic.survey import SurveyFiles
from tests.support.configs import CATALOG_TOML
from tests.support.jobs import CallJob, run_job, summary_of
from tests.support.models import SavedModel
from tests.support.repository import REPOSITORY
from tests.support.skies import read_catalog


@pytest.fixture
def config(tmp_path: Path, survey: SurveyFiles, saved_model: SavedModel) -> Path:
    file = tmp_path / "catalog.toml"
    file.write_text(catalog_toml(tmp_path, survey, saved_model))
    return file


def catalog_toml(folder: Path, survey: SurveyFiles, model: SavedModel) -> str:
    return CATALOG_TOML.format(output=folder / "out", checkpoint=model.uri, manifest=survey.manifest)


@pytest.fixture(scope="module", autouse=True)
def killed_job(
    survey: SurveyFiles, saved_model: SavedModel, tmp_path_factory: pytest.TempPathFactory
) -> list[psutil.Process]:
    """The processes of a job that is killed before the other tests run: they end only after a while."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "catalog.toml").write_text(catalog_toml(folder, survey, saved_model))
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.build_catalog", str(folder / "catalog.toml")],
        cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    started, deadline = list[psutil.Process](), time.monotonic() + 60
    while not any(is_raylet(child) for child in started):
        assert process.poll() is None, "Ray did not start"
        assert time.monotonic() < deadline, "Ray did not start"
        time.sleep(0.2)
        started = psutil.Process(process.pid).children(recursive=True)
    time.sleep(2)
    started = list({*started, *psutil.Process(process.pid).children(recursive=True)})
    process.kill()
    process.wait(30)
    return started


def is_raylet(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.name() == "raylet"
    return False


def test_build_catalog_on_one_cpu_until_nothing_is_left_to_do(config: Path) -> None:
    strict = run_job("build_catalog", str(config), "--set", "max_failed_fraction=0.01")
    assert strict.returncode == 3, strict.stderr
    assert "4 of 40 cutouts have no class" in strict.stderr
    assert "Traceback" not in strict.stderr
    assert summary_of(strict)["catalog_uri"] is None
    assert Path(summary_of(strict)["parts_uri"]).is_dir()
    assert "40 of 40 galaxies (100%)" in strict.stderr
    first = run_job("build_catalog", str(config))
    assert first.returncode == 0, first.stderr
    summary = summary_of(first)
    assert {"catalog_uri", "rows", "failed", "flagged", "seconds"} <= summary.keys()
    assert (summary["rows"], summary["failed"], summary["computed_rows"]) == (40, 4, 0)
    assert len(read_catalog(summary["catalog_uri"])) == 40
    assert lines_of_others(strict.stderr) == lines_of_others(first.stderr) == []
    again = run_job("build_catalog", str(config))
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stderr
    assert lines_of_others(again.stderr) == []
    assert summary_of(again)["already_published"]


def lines_of_others(stderr: str) -> list[str]:
    """Lines of the log that are not in the format of the jobs, such as those of Ray."""
    own = re.compile(r"\d\d:\d\d:\d\d (INFO|WARNING|ERROR) \S")
    return [line for line in stderr.splitlines() if not own.match(line)]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
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
def test_input_errors_exit_with_2_before_ray_starts(
    config: Path, call_job: CallJob, overrides: list[str], message: str
) -> None:
    ended = call_job("build_catalog", str(config), *(word for o in overrides for word in ("--set", o)))
    assert ended.code == 2, ended.log
    assert message in ended.log
    assert "Traceback" not in ended.log
    assert ended.stdout == ""


def test_an_unknown_key_is_reported_without_traceback(config: Path) -> None:
    process = run_job("build_catalog", str(config), "--set", "relase=x", timeout=60)
    assert process.returncode == 2, process.stderr
    assert "relase = 'x': unknown key; did you mean release?" in process.stderr
    assert "Traceback" not in process.stderr
    assert "ray" not in process.stderr.lower().replace(str(REPOSITORY).lower(), "")
    assert process.stdout == ""


def test_duplicate_ids_are_named(config: Path, survey: SurveyFiles, tmp_path: Path, call_job: CallJob) -> None:
    lines = survey.manifest.read_text().splitlines()
    (tmp_path / "doubled.csv").write_text("\n".join([*lines, lines[1]]) + "\n")
    ended = call_job("build_catalog", str(config), "--set", f"manifest.uri={tmp_path / 'doubled.csv'}")
    assert ended.code == 2
    assert f"1 ids are in more than one row: {lines[1].split(',')[0]}" in ended.log


@pytest.mark.parametrize(
    "job",
    [
        "build_catalog",
        "train_model",
        "pack_cutouts",
        "export_catalog",
        "compare_catalogs",
        "find_similar",
        "audit_catalog",
        "review_queue",
    ],
)
def test_a_missing_config_exits_with_2(job: str, call_job: CallJob) -> None:
    ended = call_job(job, "nowhere.toml")
    assert (ended.code, "no such file" in ended.log) == (2, True), ended.log
    assert call_job(job).code == 2


@pytest.mark.slow
def test_the_benchmark_measures_all_stages(tmp_path: Path, survey: SurveyFiles, saved_model: SavedModel) -> None:
    file = tmp_path / "benchmark.toml"
    file.write_text(
        f'output_uri = "{tmp_path / "out"}"\ncheckpoint_uri = "{saved_model.uri}"\nrows = 90\nruns = 1\nseconds = 0.2\n'
        f'chunk_rows = 30\ntiles = true\n[manifest]\nuri = "{survey.manifest}"\n'
        'uri_template = "images/{object_id}.jpg"\n[runtime]\nnum_cpus = 1\nengine = "torch"\n'
    )
    process = run_job("benchmark", str(file))
    assert process.returncode == 0, process.stderr
    summary = summary_of(process)
    assert summary == json.loads((tmp_path / "out" / "benchmark.json").read_text())
    (job,) = summary["whole_job"]
    assert job["rows"] == 90
    assert job["failed"] == 8  # 90 rows repeat the 4 unusable cutouts twice; those repeated three times are usable
    assert 0 < job["rate_per_s"] < job["steady_rate_per_s"]
    assert job["share_of_lowest_ceiling"] > 0
    assert {"driver", "actor"} <= job["peak_bytes"].keys()
    assert {"start", "classify", "publish", "verify", "report"} == job["step_seconds"].keys()
    table = (tmp_path / "out" / "benchmark.md").read_text()
    for name in summary["ceilings_per_s"]:
        assert f"| {name} |" in table
    assert "| tiles.cut, 128 px |" in table
    assert (tmp_path / "out" / "benchmark.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_benchmark_of_a_gpu_runs_without_one(tmp_path: Path, saved_model: SavedModel) -> None:
    config = REPOSITORY / "jobs" / "configs" / "benchmark_gpu.toml"
    settings = {
        "output_uri": tmp_path / "out", "checkpoint_uri": saved_model.uri, "rows": 90, "chunk_rows": 15,
        "seconds": 0.2, "price_per_hour": 3, "runtime.device": "cpu", "runtime.num_cpus": 2, "runtime.engine": "torch",
    }  # fmt: skip
    overrides = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    process = run_job("benchmark", str(config), *overrides, timeout=350)
    assert process.returncode == 0, process.stderr
    summary = summary_of(process)
    assert summary["engine_tests"]["failed"] == 0
    assert summary["engine_tests"]["passed"] >= 5
    assert summary["agreement"].keys() == {"model (torch, fp32)", "model (torch, bf16)"}
    assert [run["precision"] for run in summary["whole_job"]] == ["fp32", "bf16"]
    for run in summary["whole_job"]:
        assert run["gpu_busy_share"] is None
        assert run["share_of_model"] > 0
        assert run["cost_per_100_million"] == pytest.approx(3 * run["hours_per_100_million"], rel=0.1)
        assert run["hours_per_100_million"] == pytest.approx(1e8 / run["steady_rate_per_s"] / 3600, rel=0.01)
    table = (tmp_path / "out" / "benchmark.md").read_text()
    assert "| bf16 |" in table
    assert "Tests of the GPU engine against the CPU (no GPU): " in table


def test_no_process_survives_a_killed_job(killed_job: list[psutil.Process]) -> None:
    """The last test, because Ray checks its parent periodically."""
    assert psutil.wait_procs(killed_job, timeout=120)[1] == []
