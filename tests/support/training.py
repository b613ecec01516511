"""Configs and made-up results of training runs."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from galaxy_batch.model.checkpoint import Checkpoint
from galaxy_batch.model.network import build_model
from galaxy_batch.model.spec import RANDOM, ModelSpec
from galaxy_batch.settings import parse_config
from galaxy_batch.synthetic.survey import SurveyFiles
from train.config import TrainConfig
from train.data.labels import AMBIGUOUS, Labels
from train.evaluate.evaluation import Evaluation, evaluate
from train.evaluate.results import PartResult, TrainingRun
from train.fit.fit import Epoch
from train.sweep import ThresholdResult

SIZE = 32


def train_config(voted: SurveyFiles, output: Path, *overrides: str) -> TrainConfig:
    values: dict[str, Any] = {
        "output_uri": str(output),
        "galaxies": {"uri": str(voted.votes), "id_column": "GalaxyID", "uri_template": "images/{GalaxyID}.jpg"},
        "network": {"architecture": "test_efficientnet", "weights": "random", "size_px": 32},
        "fit": {
            "head": {"epochs": 1, "learning_rate": 1e-3},
            "blocks": {"epochs": 1, "learning_rate": 1e-3, "blocks": 9},
        },
        "split": {"calibration_fraction": 0.25},
    }
    return parse_config(TrainConfig, values, overrides)


def part_of(galaxies: int, classes: int, wrong: int, seed: int, with_logits: bool = True) -> PartResult:
    """Galaxies of alternating classes, the first `wrong` of which are predicted wrongly."""
    generator = np.random.default_rng(seed)
    labels = np.arange(galaxies) % classes
    said = np.where(np.arange(galaxies) < wrong, (labels + 1) % classes, labels)
    logits = generator.normal(0, 0.3, (galaxies, classes)) + 3 * np.eye(classes)[said]
    return PartResult(
        ids=tuple(f"{seed}-{row}<i>" for row in range(galaxies)),
        pixels=torch.from_numpy(generator.integers(0, 255, (galaxies, 3, SIZE, SIZE)).astype(np.uint8)),
        labels=labels,
        votes=generator.dirichlet(np.ones(classes), galaxies),
        logits=logits if with_logits else np.empty((0, classes)),
    )


def run_of(
    classes: tuple[str, ...] = ("smooth", "featured"), galaxies: int = 24, wrong: int = 5, **changes: Any
) -> TrainingRun:
    torch.manual_seed(0)
    spec = ModelSpec("test_efficientnet", classes, SIZE, 1.0, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    config = parse_config(
        TrainConfig,
        {"output_uri": "memory://out", "galaxies": {"uri": "s3://key:secret@host/v.csv?sig=abc", "image_column": "x"}},
        (),
    )
    test = part_of(galaxies, len(classes), wrong, seed=1)
    evaluation = evaluate(test.logits, test.labels, 1.5, 0.95)
    checkpoint = Checkpoint(
        spec, 1.5, 0.7, {"threshold": 0.6, "note": "<script>alert(1)</script>"}, evaluation.accuracy, evaluation.ece,
        {"versions": {"torch": "1.2.3"}}, "feedbeef",
    )  # fmt: skip
    votes = np.random.default_rng(5).dirichlet(np.ones(len(classes)), 90)
    run = TrainingRun(
        config=config,
        checkpoint=checkpoint,
        model=build_model(spec, RANDOM),
        labels=Labels(classes, np.where(votes.max(axis=1) >= 0.6, votes.argmax(axis=1), AMBIGUOUS), votes),
        unusable={"missing": 2},
        parts={
            "train": part_of(20, len(classes), 0, seed=2, with_logits=False),
            "calibration": part_of(16, len(classes), 3, seed=3),
            "test": test,
        },
        epochs=(Epoch("head", 1, 0.7, 0.6, 0.65, 0.62, 3.0), Epoch("blocks", 1, 0.5, 0.7, 0.6, 0.66, 9.0)),
        evaluation=evaluation,
        seconds=12.0,
    )
    return dataclasses.replace(run, **changes)


def threshold_result(threshold: float, kept: int, accuracy: float, galaxies: int = 400) -> ThresholdResult:
    evaluation = Evaluation(galaxies, accuracy, 0.02, 0.1, 0.8, [[1, 0], [0, 1]])
    return ThresholdResult(threshold, kept, kept / 1000, {"a": 0.5, "b": 0.5}, evaluation, evaluation, "m")
