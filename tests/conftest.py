"""What the tests share: one Ray for all, a small survey with every defect in it, a tiny checkpoint, real data."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import jobs  # noqa: F401 - sets what Ray reads when it is imported
from galaxy_batch.checkpoint import Checkpoint, save_checkpoint
from galaxy_batch.config import RuntimeConfig
from galaxy_batch.model import RANDOM, ModelSpec, build_model
from galaxy_batch.synthetic import ONE_OF_EACH_DEFECT, SurveyFiles, write_survey
from jobs.command import ray_session
from tests.s3_server import s3, s3_process  # noqa: F401 - fixtures

REPOSITORY = Path(__file__).parent.parent


torch.set_num_threads(1)  # the machine may be busy with Ray's workers, and threads that wait for each other are slow


@pytest.fixture(scope="session")
def ray_started() -> Iterator[None]:
    """One Ray with two CPUs for the whole session."""
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
