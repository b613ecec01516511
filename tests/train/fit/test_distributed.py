import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray.train
import torch

from galaxy_batch.errors import InputError
from galaxy_batch.model.saved_model import load_checkpoint
from galaxy_batch.synthetic.survey import SurveyFiles, write_survey
from tests.support.training import train_config
from train import run as training_run
from train.config import TrainConfig
from train.data.galaxies import load_part, new_model, read_galaxies
from train.data.splits import split_galaxies
from train.fit import distributed
from train.fit.distributed import SharedFit, fit_on_workers
from train.fit.fit import Epoch
from train.run import train_model

pytestmark = pytest.mark.timeout(900)  # starts a dozen processes that import torch: minutes on a busy machine

BOTH_PHASES = [("head", 1), ("head", 2), ("blocks", 1), ("blocks", 2), ("blocks", 3)]


@pytest.fixture(scope="module")
def voted(tmp_path_factory: pytest.TempPathFactory) -> SurveyFiles:
    return write_survey(tmp_path_factory.mktemp("voted"), galaxies=120, seed=21, defects={"missing": 1, "truncated": 2})


def two_workers(voted: SurveyFiles, output: Path) -> TrainConfig:
    return train_config(
        voted,
        output,
        "workers=2",
        "fit.head.epochs=2",
        "fit.blocks.epochs=3",
        "fit.averaging=0.9",
        'fit.schedule="cosine"',
        "fit.batch_size=8",
    )


def logging_worker(log: Path, dies_in: tuple[str, int] | None = None) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The worker function; logs the process of each step and the weights of each epoch, and may be killed in one."""
    fit_share = distributed._fit_share

    def logged(arguments: dict[str, Any]) -> dict[str, Any]:
        from train.fit.distributed import _RayTrainStore
        from train.fit.frozen_features import FrozenFeatures

        rank, steps = int(os.environ["RANK"]), dict[tuple[str, int], int]()
        batch, save = FrozenFeatures.batch, _RayTrainStore.save

        def write(*words: object) -> None:
            with open(log / f"{os.getpid()}.txt", "a") as file:
                file.write(" ".join(map(str, words)) + "\n")

        def logged_batch(self: Any, rows: Any, number: int, phase: Any) -> Any:
            epoch = ("blocks" if phase.blocks else "head", number + 1)
            steps[epoch] = steps.get(epoch, 0) + 1
            write("step", rank, *epoch)
            died = log / "died"
            if rank == 1 and epoch == dies_in and steps[epoch] == 3 and not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return batch(self, rows, number, phase)

        def logged_save(self: Any, state: dict[str, Any], epoch: Epoch) -> None:
            weights = torch.cat([value.double().flatten() for value in state["model"].values()])
            write("saved", rank, epoch.phase, epoch.number, float(weights.square().sum()))
            save(self, state, epoch)

        FrozenFeatures.batch, _RayTrainStore.save = logged_batch, logged_save  # type: ignore[method-assign]
        return fit_share(arguments)

    log.mkdir(exist_ok=True)
    return logged


@dataclasses.dataclass(frozen=True)
class Run:
    fit: SharedFit
    weights: dict[str, torch.Tensor]
    log: list[list[str]]
    output: Path

    def saved(self, phase: str, number: int) -> list[tuple[str, str]]:
        """Rank and sum of weights of each worker at the end of an epoch."""
        return [(rank, sum_) for _, what, rank, *e, sum_ in self.log if what == "saved" and e == [phase, str(number)]]

    def processes(self, phase: str, number: int) -> int:
        """Number of processes that took a step in an epoch."""
        return len({pid for pid, what, _, *epoch in self.log if what == "step" and epoch == [phase, str(number)]})


def run(config: TrainConfig, log: Path, dies_in: tuple[str, int] | None = None) -> Run:
    galaxies, labels = read_galaxies(config)
    model = new_model(config, labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "_fit_share", logging_worker(log, dies_in))
        fit = fit_on_workers(config, model, galaxies, labels)
    lines = [[f.stem, *line.split()] for f in log.glob("*.txt") for line in f.read_text().splitlines()]
    return Run(fit, model.state_dict(), lines, Path(config.output_uri))


@pytest.fixture(scope="module")
def undisturbed(ray_started: None, voted: SurveyFiles, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("undisturbed")
    return run(two_workers(voted, folder / "out"), folder / "log")


@pytest.mark.slow
def test_two_workers_train_one_model(undisturbed: Run) -> None:
    assert [(e.phase, e.number) for e in undisturbed.fit.epochs] == BOTH_PHASES
    for epoch in BOTH_PHASES:
        assert undisturbed.processes(*epoch) == 2
        saved = dict(undisturbed.saved(*epoch))
        assert saved.keys() == {"0", "1"}
        assert saved["0"] == saved["1"], "each worker has the same weights"
    assert undisturbed.fit.epochs[-1].loss < undisturbed.fit.epochs[0].loss


@pytest.mark.slow
def test_each_galaxy_trains_on_one_worker(undisturbed: Run, voted: SurveyFiles, tmp_path: Path) -> None:
    config = two_workers(voted, tmp_path)
    galaxies, labels = read_galaxies(config)
    alone = load_part(config, galaxies, labels, split_galaxies(galaxies["object_id"], config.split).train, learns=True)
    assert np.array_equal(undisturbed.fit.rows, alone.rows)
    assert undisturbed.fit.unusable == alone.unusable


@pytest.mark.slow
def test_stored_states_are_removed(undisturbed: Run) -> None:
    assert not [path for path in undisturbed.output.rglob("*") if path.is_file()]


@pytest.mark.faults
def test_a_dead_worker_costs_only_its_epoch(
    ray_started: None, undisturbed: Run, voted: SurveyFiles, tmp_path: Path
) -> None:
    killed = run(two_workers(voted, tmp_path / "out"), tmp_path / "log", dies_in=("blocks", 2))
    assert (tmp_path / "log" / "died").exists()
    assert [killed.processes(*epoch) for epoch in BOTH_PHASES] == [2, 2, 2, 4, 2], "only that epoch was repeated"
    assert [dataclasses.replace(e, seconds=0) for e in killed.fit.epochs] == [
        dataclasses.replace(e, seconds=0) for e in undisturbed.fit.epochs
    ]
    for name, tensor in undisturbed.weights.items():
        assert torch.equal(killed.weights[name], tensor), name


@pytest.mark.faults
def test_an_interrupted_job_resumes_when_run_again(
    ray_started: None, undisturbed: Run, voted: SurveyFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "_MAX_DEATHS", 0)
    config = two_workers(voted, tmp_path / "out")
    with pytest.raises(ray.train.TrainingFailedError):
        run(config, tmp_path / "log", dies_in=("blocks", 2))
    resumed = run(config, tmp_path / "log", dies_in=("blocks", 2))
    assert [resumed.processes(*epoch) for epoch in BOTH_PHASES] == [2, 2, 2, 4, 2]
    assert all(torch.equal(resumed.weights[name], tensor) for name, tensor in undisturbed.weights.items())


@pytest.mark.slow
def test_training_run_on_two_workers(
    ray_started: None, voted: SurveyFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_run, "_MAX_LOADED", 20)
    summary = train_model(train_config(voted, tmp_path, "workers=2"))
    checkpoint, model = load_checkpoint(summary["checkpoint_uri"])
    assert model(torch.zeros(3, 3, 32, 32, dtype=torch.uint8)).class_logits.shape == (3, 2)
    assert checkpoint.training["workers"] == 2
    assert checkpoint.training["galaxies_per_split"]["train"] > 40
    assert 0 <= summary["accuracy"] <= 1


def test_more_workers_than_gpus_is_an_error(ray_started: None, voted: SurveyFiles, tmp_path: Path) -> None:
    config = train_config(voted, tmp_path, "workers=2", "device=cuda")
    galaxies, labels = read_galaxies(config)
    with pytest.raises(InputError, match="Ray has 0"):
        fit_on_workers(config, new_model(config, labels), galaxies, labels)


def test_only_an_identical_run_resumes(voted: SurveyFiles, tmp_path: Path) -> None:
    def name(*overrides: str) -> str:
        config = train_config(voted, tmp_path, "workers=2", *overrides)
        galaxies, labels = read_galaxies(config)
        return distributed._run_name(config, new_model(config, labels), galaxies, labels)

    names = [name(), name("fit.seed=1"), name("labels.threshold=0.7"), name("workers=3"), name("split.fold=1")]
    assert name() == names[0]
    assert len(set(names)) == len(names)
