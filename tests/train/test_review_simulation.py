import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from galaxy_batch.errors import InputError
from galaxy_batch.settings import load_config, parse_config
from galaxy_batch.synthetic.survey import write_survey
from tests.support.html_pages import Page
from tests.support.repository import REPOSITORY
from train.config import SimulationConfig
from train.review_simulation import NO_CLASS, choose_galaxies, simulate_reviews, simulated_answers


def test_answers_are_drawn_from_the_votes() -> None:
    votes = np.repeat([[0.7, 0.2], [1.0, 0.0], [0.0, 1.0]], 4000, axis=0)
    answers = simulated_answers(votes, seed=5)
    first = answers[:4000]
    shares = [(first == answer).mean() for answer in (0, 1, NO_CLASS)]
    assert shares == pytest.approx([0.7, 0.2, 0.1], abs=0.025)
    assert set(answers[4000:8000]) == {0}
    assert set(answers[8000:]) == {1}
    assert np.array_equal(answers, simulated_answers(votes, seed=5))
    assert not np.array_equal(answers, simulated_answers(votes, seed=6))


def test_each_strategy_chooses_unseen_galaxies_as_it_says() -> None:
    seen = np.array([0, 5])
    margins = np.array([0.0, 3, 1, 2, 9, 0, 8, 7, 6, 5], np.float32)
    features = np.array([[0], [1], [2], [3], [4], [5], [6], [20], [21], [40]], np.float32)

    def chosen(strategy: Any, count: int, seed: int = 0) -> list[int]:
        return choose_galaxies(strategy, count, seen, margins, features, seed).tolist()

    assert chosen("uncertain", 3) == [2, 3, 1]
    assert chosen("diverse", 3) == [9, 8, 2], "farthest from 0 and 5; then from 40 too; then between"
    assert sorted(chosen("random", 8)) == [1, 2, 3, 4, 6, 7, 8, 9]
    assert chosen("random", 4, seed=1) != chosen("random", 4, seed=2)
    assert len(chosen("diverse", 100)) == 8


def _values(tmp_path: Path) -> dict[str, Any]:
    survey = write_survey(tmp_path / "survey", galaxies=150, seed=31)
    return {
        "output_uri": str(tmp_path / "simulation"),
        "galaxies": {"uri": str(survey.votes), "id_column": "GalaxyID", "uri_template": "images/{GalaxyID}.jpg"},
        "network": {"architecture": "test_efficientnet", "weights": "random", "size_px": 32},
        "fit": {
            "head": {"epochs": 1, "learning_rate": 1e-3},
            "blocks": {"epochs": 1, "learning_rate": 1e-4, "blocks": 1},
        },
        "rounds": [20, 40],
        "seeds": [3],
    }


def test_a_simulation_trains_on_the_chosen_galaxies_and_goes_on(tmp_path: Path) -> None:
    values = _values(tmp_path)
    first = simulate_reviews(parse_config(SimulationConfig, values))
    content = json.loads((tmp_path / "simulation" / "simulation.json").read_text())
    rounds = {(one["strategy"], one["verdicts"]): one for one in content["rounds"]}
    assert set(rounds) == {(strategy, count) for strategy in ("random", "uncertain", "diverse") for count in (20, 40)}
    assert len({rounds[strategy, 20]["accuracy"] for strategy in ("random", "uncertain", "diverse")}) == 1
    assert all(one["labelled"] <= one["verdicts"] for one in content["rounds"])
    page = Page(Path(first["report_uri"]).read_text())
    assert page.headings == ["Accuracy and verdicts", "Verdicts needed"]
    assert len(page.figures) == 1
    stored = tmp_path / "simulation" / "rounds" / "diverse-3.json"
    before = stored.stat().st_mtime_ns
    again = simulate_reviews(parse_config(SimulationConfig, values))
    assert again["accuracy"] == first["accuracy"]
    assert stored.stat().st_mtime_ns == before, "finished rounds are not simulated again"
    changed = simulate_reviews(parse_config(SimulationConfig, {**values, "rounds": [20, 30], "strategies": ["random"]}))
    assert list(changed["accuracy"]["random"]) == ["20", "30"]


def test_the_shipped_config_is_a_simulation() -> None:
    config = load_config(SimulationConfig, REPOSITORY / "jobs" / "configs" / "simulate_reviews.toml")
    assert config.rounds[-1] == 1600
    with pytest.raises(InputError, match="increasing"):
        load_config(SimulationConfig, REPOSITORY / "jobs" / "configs" / "simulate_reviews.toml", ["rounds=[5,3]"])
