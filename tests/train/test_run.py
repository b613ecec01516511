import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from galaxy_batch.errors import InputError
from galaxy_batch.model.saved_model import load_checkpoint
from galaxy_batch.synthetic.survey import SurveyFiles, write_survey
from tests.support.training import train_config
from train import run
from train.config import TrainConfig
from train.fit.fit import predict_logits
from train.run import train_model

QUESTION = 'labels.questions=["smooth_or_featured"]'


@pytest.fixture(scope="module")
def voted(tmp_path_factory: pytest.TempPathFactory) -> SurveyFiles:
    return write_survey(tmp_path_factory.mktemp("voted"), galaxies=120, seed=21, defects={"missing": 1, "truncated": 2})


@dataclass(frozen=True)
class FinishedRun:
    summary: dict[str, Any]
    output: Path
    log: list[logging.LogRecord]
    saved_before: list[bool]
    """Whether the checkpoint was there, without the agreement of bf16, each time that this was measured."""


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records = list[logging.LogRecord]()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def finished_run(config: TrainConfig, native: bool) -> FinishedRun:
    """Train on a processor that has bf16, or has not."""
    saved_before: list[bool] = []
    handler, root = Records(), logging.getLogger()

    def measure(*arguments: Any) -> torch.Tensor:
        checkpoint, _ = load_checkpoint(f"{config.output_uri}/model.safetensors")
        saved_before.append(not checkpoint.bf16_agreement)
        return predict_logits(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "has_bf16", lambda _: native)
        patch.setattr(run, "predict_logits", measure)
        level = root.level
        root.setLevel(logging.INFO)
        root.addHandler(handler)
        try:
            summary = train_model(config)
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
    return FinishedRun(summary, Path(config.output_uri), handler.records, saved_before)


@pytest.fixture(scope="module")
def runs(voted: SurveyFiles, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, FinishedRun]:
    """Two runs, with bf16 and another seed, and without; both learn the votes for a question."""
    seeds = {True: 5, False: 0}
    return {
        native: finished_run(train_config(voted, tmp_path_factory.mktemp("run"), f"fit.seed={seed}", QUESTION), native)
        for native, seed in seeds.items()
    }


def test_checkpoint_and_metrics_of_a_run(runs: dict[bool, FinishedRun]) -> None:
    summary = runs[False].summary
    checkpoint, model = load_checkpoint(summary["checkpoint_uri"])
    assert model.familiarity is not None
    assert checkpoint.spec.classes == ("smooth", "featured")
    assert checkpoint.label_rule["threshold"] == 0.6
    assert checkpoint.accuracy == summary["accuracy"]
    assert checkpoint.ece == summary["ece"]
    assert 0 < checkpoint.min_confidence <= 1
    assert 0 < checkpoint.max_unfamiliarity < 1000
    assert 0 <= checkpoint.max_instability <= 0.5, "measured with 8 views, although the model averages over one"
    assert checkpoint.training["network"]["weights"] == "random"
    assert "verdicts" not in {*checkpoint.training, *summary}
    metrics = json.loads((Path(summary["report_uri"]).parent / "metrics.json").read_text())
    assert metrics["checkpoint_id"] == checkpoint.checkpoint_id
    assert set(metrics["test"]["flagged"]) == {"LOW_CONFIDENCE", "UNFAMILIAR", "any of them"}
    assert set(metrics["test"]["caught_by_review"]) >= {"reviewed", "confidence", "unfamiliarity"}
    assert sum(metrics["galaxies"].values()) == 120
    used = sum(sum(part.values()) for part in metrics["split"].values())
    assert used + sum(metrics["unusable"].values()) == metrics["galaxies"]["smooth"] + metrics["galaxies"]["featured"]
    assert str(runs[False].output) not in json.dumps(checkpoint.training)


def test_vote_fractions_are_scored_on_all_test_galaxies(runs: dict[bool, FinishedRun]) -> None:
    summary = runs[False].summary
    checkpoint, model = load_checkpoint(summary["checkpoint_uri"])
    assert [question.name for question in checkpoint.spec.questions] == ["smooth_or_featured"]
    assert model.questions is not None
    metrics = json.loads((Path(summary["report_uri"]).parent / "metrics.json").read_text())
    scores = metrics["questions"]
    assert 0 < scores["rmse"] == summary["question_rmse"] < 0.5
    assert scores["galaxies"] > sum(n for name, n in metrics["split"]["test"].items() if name != "ambiguous")


def test_equal_settings_give_equal_checkpoints(
    voted: SurveyFiles, runs: dict[bool, FinishedRun], tmp_path: Path
) -> None:
    first = runs[False].summary
    again = finished_run(train_config(voted, tmp_path, "fit.seed=0", QUESTION), native=False).summary
    assert first["checkpoint_id"] == again["checkpoint_id"]
    (_, model), (_, other) = (load_checkpoint(finished.summary["checkpoint_uri"]) for finished in runs.values())
    weights = dict(other.named_parameters())
    assert not any(torch.equal(weight, weights[name]) for name, weight in model.named_parameters() if weight.dim() > 1)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("labels.table=gz2", "no such column"),
        ("labels.threshold=0.4", "must be between 0.5 and 1"),
        ("network.weights=/nowhere.pth", "no such file"),
        ("network.architecture=efficientnet_z9", "timm has no such model"),
        ("network.std=[0,1,1]", r"network\.std\[0\] = 0.0: must be at least 1e-09"),
        ("labels.threshold=1.0", "too few"),
    ],
)
def test_errors_name_the_setting(voted: SurveyFiles, tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        train_model(train_config(voted, tmp_path, override))


@pytest.mark.parametrize("native", [True, False])
def test_bf16_is_measured_where_the_processor_has_it_after_the_checkpoint_is_saved(
    runs: dict[bool, FinishedRun], native: bool
) -> None:
    finished = runs[native]
    checkpoint, _ = load_checkpoint(finished.summary["checkpoint_uri"])
    assert finished.saved_before == [True] * native
    assert bool(checkpoint.bf16_agreement) is native
    assert checkpoint.checkpoint_id == finished.summary["checkpoint_id"]
    log = "\n".join(record.getMessage() for record in finished.log)
    assert ("this processor emulates bf16" in log) is not native
    for step in ("describing training galaxies", "calibration galaxies", "test galaxies", "checkpoint ", "report"):
        assert step in log.partition("blocks 1/1")[2]


def test_warnings_are_logged_and_in_the_summary(runs: dict[bool, FinishedRun]) -> None:
    summary = runs[False].summary
    assert any("test galaxies: use the intervals" in warning for warning in summary["warnings"])
    logged = [record.getMessage() for record in runs[False].log if record.levelname == "WARNING"]
    assert set(summary["warnings"]) <= set(logged)
