"""Fixtures of all tests: Ray, a small survey with every kind of defect, a tiny checkpoint, real galaxies."""

import contextlib
import os
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import jobs  # noqa: F401 - sets environment variables before Ray is imported
from galaxy_batch.config import RuntimeConfig
from galaxy_batch.pipeline import classify_release
from galaxy_batch.plan import plan_release
from galaxy_batch.synthetic.survey import ONE_OF_EACH_DEFECT, SurveyFiles, write_survey
from jobs.command import ray_session
from tests.support.configs import FinishedRelease, catalog_config
from tests.support.cutout_server import cutout_server  # noqa: F401 - fixture
from tests.support.jobs import CallJob, FinishedJob
from tests.support.models import SavedModel, save_random_model
from tests.support.panoptes_server import panoptes  # noqa: F401 - fixture
from tests.support.repository import REPOSITORY
from tests.support.s3_server import s3, s3_process  # noqa: F401 - fixtures

torch.set_num_threads(1)  # Ray's workers use the other cores


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files that need Ray first, so that with `-n 2` the short ones balance the two processes."""
    with_ray = {item.path for item in items if "ray_started" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path not in with_ray)


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Converted networks are kept in a folder of the tests, also by the workers of Ray."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GALAXY_BATCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def ray_started() -> Iterator[None]:
    """Ray with two CPUs, shared by all tests of a process; it keeps idle workers, whose imports take most of a run."""
    with contextlib.ExitStack() as session:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("RAY_num_workers_soft_limit", "8")
            session.enter_context(ray_session(RuntimeConfig(num_cpus=2)))
        yield


@pytest.fixture(scope="session")
def sky() -> Path:
    """Folder of real galaxies; tests that need it are skipped if it does not exist."""
    folder = Path(os.environ.get("GALAXY_BATCH_SKY", REPOSITORY.parent / "shared" / "sky"))
    if not folder.is_dir():
        pytest.skip(f"no real galaxies at {folder}; set GALAXY_BATCH_SKY")
    return folder


@pytest.fixture(scope="session")
def survey(tmp_path_factory: pytest.TempPathFactory) -> SurveyFiles:
    """A simulated survey of 40 galaxies: the last twelve have a defect, three have no position."""
    return write_survey(
        tmp_path_factory.mktemp("survey"), galaxies=40, seed=11, defects=ONE_OF_EACH_DEFECT, without_position=3
    )


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> SavedModel:
    """A checkpoint of a tiny network with random weights."""
    return save_random_model(tmp_path_factory.mktemp("model") / "model.safetensors", seed=3)


@pytest.fixture(scope="session")
def first_release(
    survey: SurveyFiles, saved_model: SavedModel, tmp_path_factory: pytest.TempPathFactory, ray_started: None
) -> FinishedRelease:
    """The catalog of the survey with the settings of `catalog_config`. Tests change copies of it."""
    config = catalog_config(survey, saved_model, tmp_path_factory.mktemp("first"))
    return FinishedRelease(config, classify_release(plan_release(config)))


@pytest.fixture
def call_job(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> CallJob:
    """Run a job that needs no Ray like `python -m`, but in this process, which saves the imports."""

    def call(job: str, *arguments: str) -> FinishedJob:
        monkeypatch.setattr(sys, "argv", [job, *arguments])
        monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("Ray was started"))
        monkeypatch.delitem(sys.modules, f"jobs.{job}", raising=False)
        caplog.clear()
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(f"jobs.{job}", run_name="__main__", alter_sys=True)
        captured = capsys.readouterr()
        return FinishedJob(ended.value.code, caplog.text + captured.err, captured.out)

    return call
