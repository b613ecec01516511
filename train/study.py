"""The whole training run: votes -> labels -> split -> fit -> calibration -> held-out numbers -> checkpoint and report."""

import dataclasses
import logging
import os
import time
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from galaxy_batch.checkpoint import Checkpoint, save_checkpoint
from galaxy_batch.errors import InputError
from galaxy_batch.manifest import read_objects
from galaxy_batch.model import ModelSpec, MorphologyModel, build_model
from galaxy_batch.storage import join, without_secrets
from train.calibration import fit_temperature
from train.cutouts import load_cutouts
from train.evaluation import evaluate
from train.features import Examples
from train.fit import fit, predict_logits
from train.labels import AMBIGUOUS, Labels, label_votes
from train.recipe import TrainConfig
from train.report import write_report
from train.results import PartResult, TrainingRun
from train.splits import Split, split_galaxies

__all__ = ["read_galaxies", "train_model"]

logger = logging.getLogger(__name__)

Rows = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class _Part:
    """The galaxies of one part of the split, with what to learn from them."""

    rows: Rows
    """Of the galaxy table."""
    examples: Examples
    unusable: dict[str, int]


def train_model(config: TrainConfig) -> dict[str, Any]:
    """Train, calibrate and evaluate; write the checkpoint and its report; give the job's summary.

    Raises:
        InputError: the label table, the weights or the output cannot be used, or a class has too few galaxies.
    """
    started = time.monotonic()
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    device = torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")
    galaxies, labels = read_galaxies(config)
    model = new_model(config, labels).to(device)
    split = split_galaxies(galaxies["object_id"], config.split)
    _check_split(split, labels)
    parts = {
        name: load_part(config, galaxies, labels, rows, name == "train")
        for name, rows in (("train", split.train), ("calibration", split.calibration), ("test", split.test))
    }
    epochs = fit(model, parts["train"].examples, parts["calibration"].examples, config.fit, device)
    results = {name: _result(galaxies, labels, part, model, device, name != "train") for name, part in parts.items()}
    calibration, test = results["calibration"], results["test"]
    temperature = fit_temperature(calibration.logits, calibration.labels)
    watched = evaluate(calibration.logits, calibration.labels, temperature, config.review_accuracy)
    tested = evaluate(test.logits, test.labels, temperature, config.review_accuracy)
    checkpoint = save_checkpoint(
        join(config.output_uri, "model.safetensors"),
        Checkpoint(
            spec=model.spec,
            temperature=temperature,
            min_confidence=watched.review_threshold,
            label_rule=dataclasses.asdict(config.labels),
            accuracy=tested.accuracy,
            ece=tested.ece,
            training=_provenance(config, labels, results),
        ),
        model,
    )
    unusable: dict[str, int] = {}
    for part in parts.values():
        for status, count in part.unusable.items():
            unusable[status] = unusable.get(status, 0) + count
    seconds = round(time.monotonic() - started, 3)
    run = TrainingRun(config, checkpoint, model, labels, unusable, results, tuple(epochs), tested, seconds)
    report_uri = write_report(run, join(config.output_uri, "report"))
    return {
        "checkpoint_uri": without_secrets(join(config.output_uri, "model.safetensors")),
        "checkpoint_id": checkpoint.checkpoint_id,
        "accuracy": tested.accuracy,
        "ece": tested.ece,
        "report_uri": without_secrets(report_uri),
        "galaxies": dict(labels.counts()),
        "seconds": round(time.monotonic() - started, 3),
    }


def read_galaxies(config: TrainConfig) -> tuple[pa.Table, Labels]:
    """The galaxy table with its cutouts' locations, and the labels, row by row."""
    questions = [column for question in config.fit.auxiliary_questions for column in question]
    votes = [*config.labels.columns.values(), *config.labels.other_columns, *questions]
    keep = tuple(dict.fromkeys([*config.galaxies.keep_columns, *votes]))
    galaxies = read_objects(dataclasses.replace(config.galaxies, keep_columns=keep))
    labels = label_votes(galaxies, config.labels)
    logger.info("labels at threshold %g: %s", config.labels.threshold, dict(labels.counts()))
    return galaxies, labels


def new_model(config: TrainConfig, labels: Labels) -> MorphologyModel:
    """The untrained model of a config; equal seeds give equal heads."""
    network = config.network
    spec = ModelSpec(
        architecture=network.architecture,
        classes=labels.classes,
        size_px=network.size_px,
        crop_fraction=network.crop_fraction,
        mean=(network.mean[0], network.mean[1], network.mean[2]),
        std=(network.std[0], network.std[1], network.std[2]),
    )
    torch.manual_seed(config.fit.seed)
    return build_model(spec, network.weights)


def load_part(config: TrainConfig, galaxies: pa.Table, labels: Labels, rows: Rows, learns: bool) -> _Part:
    """Pixels and targets of one part of the split.

    Galaxies without a clear label are in it only where it learns from votes. Calibration and test always ask
    for the clear label.
    """
    from_votes = learns and config.fit.learn_from == "votes"
    wanted = rows if from_votes else rows[labels.label[rows] != AMBIGUOUS]
    threads = config.threads or os.cpu_count() or 1
    loaded = load_cutouts(
        galaxies.take(pa.array(wanted)), config.network.size_px, config.network.crop_fraction, threads
    )
    kept = wanted[loaded.rows]
    targets = labels.shares()[kept] if from_votes else np.eye(len(labels.classes))[labels.label[kept]]
    questions = [column for question in config.fit.auxiliary_questions for column in question]
    answers = [galaxies[name].cast(pa.float32()).to_numpy()[kept] for name in questions]
    return _Part(
        rows=kept,
        examples=Examples(
            loaded.pixels,
            torch.from_numpy(targets).float(),
            torch.from_numpy(np.stack(answers, axis=1)) if answers else torch.empty(len(kept), 0),
        ),
        unusable=loaded.unusable,
    )


def _result(
    galaxies: pa.Table, labels: Labels, part: _Part, model: MorphologyModel, device: torch.device, held_out: bool
) -> PartResult:
    pixels = part.examples.pixels
    logits = predict_logits(model, pixels, device).double().numpy() if held_out else np.empty((0, len(labels.classes)))
    return PartResult(
        ids=tuple(map(str, galaxies["object_id"].take(pa.array(part.rows)).to_pylist())),
        pixels=pixels,
        labels=labels.label[part.rows],
        votes=labels.votes[part.rows],
        logits=logits,
    )


def _check_split(split: Split, labels: Labels) -> None:
    for part, rows in dataclasses.asdict(split).items():
        for number, name in enumerate(labels.classes):
            count = int((labels.label[rows] == number).sum())
            if count < 2:
                raise InputError(
                    "galaxies.uri", part, f"only {count} galaxies of class {name}: too few for the {part} set"
                )


def _provenance(config: TrainConfig, labels: Labels, results: dict[str, PartResult]) -> dict[str, Any]:
    """How the model came to be; no times, hosts or folders, so that the same training gives the same checkpoint."""
    return {
        "network": {**dataclasses.asdict(config.network), "weights": config.network.weights.rpartition("/")[2]},
        "fit": dataclasses.asdict(config.fit),
        "split": dataclasses.asdict(config.split),
        "galaxies": dict(labels.counts()),
        "galaxies_per_split": {part: len(result.labels) for part, result in results.items()},
        "versions": {name: version(name) for name in ("galaxy-batch", "torch", "timm")},
    }
