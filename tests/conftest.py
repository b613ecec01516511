"""What the tests share: one Ray for all, a small survey with every defect in it, a tiny checkpoint, real data."""

import os
import runpy
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import jobs  # noqa: F401 - sets what Ray reads when it is imported
from galaxy_batch.config import RuntimeConfig
from galaxy_batch.model.checkpoint import Checkpoint, save_checkpoint
from galaxy_batch.model.network import RANDOM, ModelSpec, build_model
from galaxy_batch.synthetic.survey import ONE_OF_EACH_DEFECT, SurveyFiles, write_survey
from jobs.command import ray_session
from tests.support.s3_server import s3, s3_process  # noqa: F401 - fixtures

REPOSITORY = Path(__file__).parent.parent


torch.set_num_threads(1)  # the machine may be busy with Ray's workers, and threads that wait for each other are slow


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that need Ray come first: with several processes (`-n 2`) the short ones fill the gaps that these leave."""
    with_ray = {item.path for item in items if "ray_started" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path not in with_ray)


@pytest.fixture(scope="session")
def ray_started() -> Iterator[None]:
    """One Ray with two CPUs for all tests of a process."""
    with ray_session(RuntimeConfig(num_cpus=2)):
        yield


@pytest.fixture(scope="session")
def sky() -> Path:
    """The folder of real galaxies; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("GALAXY_BATCH_SKY", REPOSITORY.parent / "shared" / "sky"))
    if not folder.is_dir():
        pytest.skip(f"no real galaxies at {folder}; set GALAXY_BATCH_SKY")
    return folder


@pytest.fixture(scope="session")
def survey(tmp_path_factory: pytest.TempPathFactory) -> SurveyFiles:
    """Forty galaxies, the last twelve of them with a defect, three without a position."""
    return write_survey(
        tmp_path_factory.mktemp("survey"), galaxies=40, seed=11, defects=ONE_OF_EACH_DEFECT, without_position=3
    )


@dataclass(frozen=True)
class SavedModel:
    """A checkpoint on disk."""

    uri: str
    checkpoint: Checkpoint


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> SavedModel:
    """A tiny network with random weights, as a checkpoint."""
    return save_random_model(tmp_path_factory.mktemp("model") / "model.safetensors", seed=3)


def save_random_model(path: Path, seed: int) -> SavedModel:
    """Write a checkpoint of timm's smallest network; another seed is another model."""
    torch.manual_seed(seed)
    spec = ModelSpec("test_efficientnet", ("smooth", "featured"), 64, 0.75, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    about = Checkpoint(spec, temperature=1.3, min_confidence=0.6, label_rule={"threshold": 0.6}, accuracy=0.5, ece=0.1)
    return SavedModel(str(path), save_checkpoint(str(path), about, build_model(spec, RANDOM)))


@dataclass(frozen=True)
class Called:
    """How a job ended."""

    code: object
    said: str
    stdout: str


CallJob = Callable[..., Called]


@pytest.fixture
def call_job(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> CallJob:
    """Run a job that needs no Ray, as `python -m` does but in this process, which has imported all that it needs."""

    def call(job: str, *arguments: str) -> Called:
        monkeypatch.setattr(sys, "argv", [job, *arguments])
        monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("Ray was started"))
        monkeypatch.delitem(sys.modules, f"jobs.{job}", raising=False)
        caplog.clear()
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(f"jobs.{job}", run_name="__main__")
        captured = capsys.readouterr()
        return Called(ended.value.code, caplog.text + captured.err, captured.out)

    return call
