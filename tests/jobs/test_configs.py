"""The configs in jobs/configs and the help texts of the jobs."""

import itertools
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from galaxy_batch.audit.config import AuditConfig
from galaxy_batch.compare.config import CompareConfig
from galaxy_batch.config import CatalogConfig
from galaxy_batch.export.config import ExportConfig
from galaxy_batch.packing.config import PackConfig
from galaxy_batch.review_queue.config import ReviewQueueConfig
from galaxy_batch.settings import load_config
from galaxy_batch.sharing.config import ShareConfig
from galaxy_batch.similar.config import SimilarConfig
from galaxy_batch.verdicts.config import ImportConfig
from jobs.benchmark.__main__ import BenchmarkConfig
from jobs.release_report import ReleaseReportConfig
from tests.support.jobs import CallJob
from tests.support.repository import REPOSITORY
from train.config import SimulationConfig, SweepConfig, TrainConfig

CONFIGS = sorted((REPOSITORY / "jobs" / "configs").glob("*.toml"))
CONFIG_OF_JOB: dict[str, Any] = {
    "audit_catalog": AuditConfig,
    "benchmark": BenchmarkConfig,
    "build_catalog": CatalogConfig,
    "compare_catalogs": CompareConfig,
    "export_catalog": ExportConfig,
    "find_similar": SimilarConfig,
    "import_verdicts": ImportConfig,
    "pack_cutouts": PackConfig,
    "release_report": ReleaseReportConfig,
    "review_queue": ReviewQueueConfig,
    "share_catalog": ShareConfig,
    "simulate_reviews": SimulationConfig,
    "submit": CatalogConfig,
    "sweep_threshold": SweepConfig,
    "train_model": TrainConfig,
}
JOBS = [*CONFIG_OF_JOB, "classify_folder", "demo", "verify_catalog"]


def parse_command(command: str) -> tuple[str, list[str]]:
    """Job and arguments of `… python -m jobs.JOB ARGUMENTS`."""
    words = shlex.split(command)
    module = words.index("-m") + 1
    return words[module].removeprefix("jobs."), words[module + 1 :]


def check_command(command: str) -> None:
    """The job exists, and its config is valid with the overrides."""
    job, arguments = parse_command(command)
    assert job in JOBS
    overrides = [word for flag, word in itertools.pairwise(arguments) if flag == "--set"]
    if job in CONFIG_OF_JOB and arguments[0].endswith(".toml"):
        load_config(CONFIG_OF_JOB[job], REPOSITORY / arguments[0], overrides)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_config_starts_with_its_purpose_and_its_command(path: Path) -> None:
    purpose, separator, command = path.read_text().partition("\n#   uv run ")
    assert purpose.startswith("# ")
    assert separator
    assert f" jobs/configs/{path.name}" in command.splitlines()[0]
    check_command(command.splitlines()[0])


def test_every_job_is_tested_here() -> None:
    files = (REPOSITORY / "jobs").rglob("*.py")
    modules = {path for path in files if "sys.exit(" in path.read_text()}
    assert {path.parent.name if path.stem == "__main__" else path.stem for path in modules} == set(JOBS)


@pytest.mark.parametrize("job", JOBS)
def test_the_help_of_a_job_has_an_example(job: str, call_job: CallJob) -> None:
    ended = call_job(job, "--help")
    assert ended.code == 0
    purpose = ended.stdout.split("\n\n")[1].replace("\n", " ")
    assert re.fullmatch(r"[A-Z].*\w\.", purpose)
    (example,) = re.findall(r"^Example:\n    (.*)$", ended.stdout, re.MULTILINE)
    assert parse_command(example)[0] == job
    check_command(example)
