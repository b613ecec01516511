import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from galaxy_batch.errors import InputError
from galaxy_batch.settings import load_config, parse_config
from galaxy_batch.synthetic.survey import write_survey
from tests.support.html_pages import Page
from tests.support.repository import REPOSITORY
from tests.support.training import threshold_result
from train.config import SweepConfig
from train.sweep import recommend, sweep_threshold


@pytest.mark.parametrize(
    ("accuracies", "expected", "words"),
    [
        ((0.90, 0.95, 0.94), 0.6, "No threshold that labels more galaxies"),
        ((0.945, 0.95, 0.94), 0.5, "within that error"),
        ((0.80, 0.90, 0.97), 0.7, "highest, 97.0%"),
    ],
)
def test_recommendation_weighs_accuracy_against_labelled_galaxies(
    accuracies: tuple[float, ...], expected: float, words: str
) -> None:
    kept = (900, 700, 500)
    results = [threshold_result(0.5 + i / 10, k, a) for i, (k, a) in enumerate(zip(kept, accuracies, strict=True))]
    best, reason = recommend(results)
    assert best.threshold == pytest.approx(expected)
    assert words in reason


@pytest.mark.slow
def test_sweep_trains_at_each_threshold_with_one_common_test_set(tmp_path: Path) -> None:
    survey = write_survey(tmp_path / "survey", galaxies=150, seed=31)
    values: dict[str, Any] = {
        "output_uri": str(tmp_path / "sweep"),
        "galaxies": {"uri": str(survey.votes), "id_column": "GalaxyID", "uri_template": "images/{GalaxyID}.jpg"},
        "network": {"architecture": "test_efficientnet", "weights": "random", "size_px": 32},
        "fit": {"head": {"epochs": 1, "learning_rate": 1e-3}, "blocks": {"epochs": 0, "learning_rate": 0.0}},
        "split": {"calibration_fraction": 0.25},
        "thresholds": [0.5, 0.7],
    }
    summary = sweep_threshold(parse_config(SweepConfig, values))
    rows = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["thresholds"]
    assert [row["threshold"] for row in rows] == [0.5, 0.7]
    assert rows[0]["kept"] > rows[1]["kept"]
    assert rows[0]["common"]["galaxies"] == rows[1]["common"]["galaxies"] < rows[1]["own"]["galaxies"]
    assert summary["recommended_threshold"] in (0.5, 0.7)
    page = Page(Path(summary["report_uri"]).read_text())
    assert page.headings == ["Recommendation", "Accuracy and labelled galaxies"]
    assert len(page.figures) == 1


def test_a_training_config_is_a_sweep_config() -> None:
    config = load_config(SweepConfig, REPOSITORY / "jobs" / "configs" / "train_gz2.toml", ["thresholds=[0.6,0.8]"])
    assert config.thresholds == (0.6, 0.8)
    with pytest.raises(InputError, match="at least two different thresholds"):
        replace(config, thresholds=(0.6,))
