"""Ctrl-C and SIGTERM, sent to real processes."""

import contextlib
import glob
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from galaxy_batch.synthetic.survey import SurveyFiles
from tests.support.jobs import CallJob
from tests.support.models import SavedModel
from tests.support.repository import REPOSITORY

ROWS = 1000
CHUNK_ROWS = 10
LINE = " galaxies are done and kept; run the same command again to go on"
CONFIG = """
output_uri = "{output}"
[manifest]
uri = "{manifest}"
image_column = "image"
[runtime]
num_cpus = 1
"""
CATALOG = 'release = "made-up"\ncheckpoint_uri = "{checkpoint}"\n' + CONFIG + "[classify]\n"


@pytest.fixture
def manifest(tmp_path: Path, survey: SurveyFiles) -> Path:
    """A table with more rows than are computed before the signal arrives; they share a cutout."""
    image = next(iter(sorted(survey.images.iterdir())))
    file = tmp_path / "objects.csv"
    file.write_text("object_id,image\n" + "".join(f"{row},{image}\n" for row in range(ROWS)))
    return file


def interrupt(job: str, config: Path, number: signal.Signals, when: Callable[[], bool]) -> tuple[int, str]:
    """Start the job, send it the signal when the condition holds; its exit code and stderr."""
    log = config.with_suffix(".log")
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", f"jobs.{job}", str(config)],
            cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True,
        )  # fmt: skip
        children: list[psutil.Process] = []
        try:
            while not when() and process.poll() is None:
                time.sleep(0.01)
            children = psutil.Process(process.pid).children(recursive=True)
            os.kill(process.pid, number)
            code = process.wait(timeout=120)
        finally:
            for left in [process, *children]:
                with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                    left.kill()
    return code, log.read_text()


def files_below(folder: Path, pattern: str) -> list[str]:
    """As `rglob`, which fails when folders disappear meanwhile."""
    return glob.glob(str(folder / "**" / pattern), recursive=True)


def check_log(log: str) -> int:
    """One line says how many rows are done, and nothing follows it; returns their number."""
    last = log.strip().splitlines()[-1]
    assert "interrupted: " in last, log
    assert last.endswith(f" of {ROWS:,}{LINE}"), log
    assert "Traceback" not in log
    return int(last.split("interrupted: ")[1].split()[0].replace(",", ""))


def test_an_interrupted_catalog_run_says_what_is_done_and_goes_on(
    manifest: Path, saved_model: SavedModel, call_job: CallJob, tmp_path: Path
) -> None:
    """Interrupted while it classifies, and again while it publishes, which leaves no sorted rows."""
    config, output = tmp_path / "catalog.toml", tmp_path / "out"
    text = CATALOG.format(output=output, checkpoint=saved_model.uri, manifest=manifest)
    config.write_text(text + f"chunk_rows = {CHUNK_ROWS}\n")
    wanted = "part-*.parquet"
    code, log = interrupt("build_catalog", config, signal.SIGINT, lambda: len(files_below(output, wanted)) > 2)
    assert code == 130, log
    assert 2 * CHUNK_ROWS < check_log(log) < ROWS
    (record,) = [json.loads(file.read_text()) for file in output.rglob("runs/*.json")]
    assert record["state"] == "interrupted"
    dry_run = call_job("build_catalog", str(config), "--dry-run")
    done = CHUNK_ROWS * len(files_below(output, wanted))
    assert json.loads(dry_run.stdout.splitlines()[-1])["rows_todo"] == ROWS - done

    code, log = interrupt("build_catalog", config, signal.SIGINT, lambda: bool(files_below(output, "*.arrow")))
    assert code == 130, log
    assert check_log(log) == ROWS
    assert not list(output.rglob("exchange"))
    assert not list(output.rglob("manifest.json"))


def test_an_interrupted_packing_run_says_what_is_done(manifest: Path, tmp_path: Path) -> None:
    config, output = tmp_path / "pack.toml", tmp_path / "out"
    config.write_text("shard_bytes = 1_048_576\nrow_group_rows = 1\n" + CONFIG.format(output=output, manifest=manifest))
    code, log = interrupt("pack_cutouts", config, signal.SIGTERM, (output / "plan.json").exists)
    assert code == 130, log
    assert check_log(log) < ROWS


LOST_INTERRUPT = """
import os, signal, time, weakref
from types import SimpleNamespace
from jobs import command
from jobs.arguments import CommandLine

class Thing: pass

def interrupted(_):
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000): pass

def job(arguments):
    with command.ray_session(SimpleNamespace(num_cpus=1)):
        thing = Thing()
        reference = weakref.ref(thing, interrupted)
        del thing
        time.sleep(20)
    return {}

raise SystemExit(command.run_job(CommandLine("test"), job))
"""


def test_an_interrupt_during_garbage_collection_is_not_lost() -> None:
    """Python only prints an exception that is raised in a weak reference's callback."""
    command = [sys.executable, "-c", LOST_INTERRUPT]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False, text=True, timeout=120)
    assert done.returncode == 130, done.stderr
    assert "interrupted" in done.stderr
