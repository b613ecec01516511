import json
from pathlib import Path
from typing import Any

import pytest
import torch

from galaxy_batch.errors import InputError
from galaxy_batch.model.saved_model import load_checkpoint
from galaxy_batch.synthetic.survey import SurveyFiles, write_survey
from tests.support.training import train_config
from train import run
from train.fit.fit import predict_logits
from train.run import train_model


@pytest.fixture(scope="module")
def voted(tmp_path_factory: pytest.TempPathFactory) -> SurveyFiles:
    return write_survey(tmp_path_factory.mktemp("voted"), galaxies=120, seed=21, defects={"missing": 1, "truncated": 2})


def test_checkpoint_and_metrics_of_a_run(voted: SurveyFiles, tmp_path: Path) -> None:
    summary = train_model(train_config(voted, tmp_path))
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
    metrics = json.loads((Path(summary["report_uri"]).parent / "metrics.json").read_text())
    assert metrics["checkpoint_id"] == checkpoint.checkpoint_id
    assert set(metrics["test"]["flagged"]) == {"LOW_CONFIDENCE", "UNFAMILIAR", "any of them"}
    assert set(metrics["test"]["caught_by_review"]) >= {"reviewed", "confidence", "unfamiliarity"}
    assert sum(metrics["galaxies"].values()) == 120
    used = sum(sum(part.values()) for part in metrics["split"].values())
    assert used + sum(metrics["unusable"].values()) == metrics["galaxies"]["smooth"] + metrics["galaxies"]["featured"]
    assert str(tmp_path) not in json.dumps(checkpoint.training)


def test_equal_settings_give_equal_checkpoints(voted: SurveyFiles, tmp_path: Path) -> None:
    first = train_model(train_config(voted, tmp_path / "a"))
    second = train_model(train_config(voted, tmp_path / "b"))
    other = train_model(train_config(voted, tmp_path / "c", "fit.seed=5"))
    assert first["checkpoint_id"] == second["checkpoint_id"] != other["checkpoint_id"]


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
    voted: SurveyFiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    native: bool,
) -> None:
    saved_before: list[bool] = []

    def measure(*arguments: Any) -> torch.Tensor:
        checkpoint, _ = load_checkpoint(str(tmp_path / "model.safetensors"))
        saved_before.append(not checkpoint.bf16_agreement)
        return predict_logits(*arguments)

    monkeypatch.setattr(run, "has_bf16", lambda _: native)
    monkeypatch.setattr(run, "predict_logits", measure)
    with caplog.at_level("INFO"):
        summary = train_model(train_config(voted, tmp_path))
    checkpoint, _ = load_checkpoint(summary["checkpoint_uri"])
    assert saved_before == [True] * native
    assert bool(checkpoint.bf16_agreement) is native
    assert checkpoint.checkpoint_id == summary["checkpoint_id"]
    assert ("this processor emulates bf16" in caplog.text) is not native
    for step in ("describing training galaxies", "calibration galaxies", "test galaxies", "checkpoint ", "report"):
        assert step in caplog.text.partition("blocks 1/1")[2]


def test_warnings_are_logged_and_in_the_summary(
    voted: SurveyFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    summary = train_model(train_config(voted, tmp_path))
    assert any("test galaxies: use the intervals" in warning for warning in summary["warnings"])
    logged = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert set(summary["warnings"]) <= set(logged)
