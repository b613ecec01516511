"""The whole training run: votes -> labels -> split -> fit -> calibration -> held-out numbers -> checkpoint."""

import dataclasses
import json
import logging
import os
import time
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from galaxy_batch.checkpoint import Checkpoint, save_checkpoint
from galaxy_batch.errors import InputError
from galaxy_batch.manifest import read_objects
from galaxy_batch.model import ModelSpec, build_model
from galaxy_batch.storage import join, without_secrets, write_atomically
from train.calibration import fit_temperature
from train.cutouts import load_cutouts
from train.evaluation import evaluate
from train.fit import Examples, fit, predict_logits
from train.labels import AMBIGUOUS, Labels, label_votes
from train.recipe import TrainConfig
from train.splits import split_galaxies

__all__ = ["train_model"]

logger = logging.getLogger(__name__)


def train_model(config: TrainConfig) -> dict[str, Any]:
    """Train, calibrate and evaluate; write the checkpoint and its report; give the job's summary.

    Raises:
        InputError: the label table, the weights or the output cannot be used, or a class has too few galaxies.
    """
    started = time.monotonic()
    threads = config.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    device = torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")
    galaxies, labels = read_galaxies(config)
    spec = ModelSpec(
        architecture=config.network.architecture,
        classes=labels.classes,
        size_px=config.network.size_px,
        crop_fraction=config.network.crop_fraction,
        mean=(config.network.mean[0], config.network.mean[1], config.network.mean[2]),
        std=(config.network.std[0], config.network.std[1], config.network.std[2]),
    )
    torch.manual_seed(config.fit.seed)
    model = build_model(spec, config.network.weights).to(device)
    clear = galaxies.filter(pa.array(labels.label != AMBIGUOUS))
    cutouts = load_cutouts(clear, spec.size_px, spec.crop_fraction, threads)
    truth = labels.label[labels.label != AMBIGUOUS][cutouts.rows]
    split = split_galaxies(clear["object_id"].take(pa.array(cutouts.rows)), config.split)
    parts = {
        name: Examples(cutouts.pixels[torch.from_numpy(rows)], torch.from_numpy(truth[rows]))
        for name, rows in dataclasses.asdict(split).items()
    }
    counts = {name: np.bincount(part.labels.numpy(), minlength=len(spec.classes)) for name, part in parts.items()}
    _check_counts(counts, spec.classes)
    logger.info("galaxies: %s", {name: dict(zip(spec.classes, c.tolist(), strict=True)) for name, c in counts.items()})
    epochs = fit(model, parts["train"], parts["calibration"], config.fit, device)
    logits = {
        name: predict_logits(model, parts[name].pixels, device).double().numpy() for name in ("calibration", "test")
    }
    temperature = fit_temperature(logits["calibration"], parts["calibration"].labels.numpy())
    watched = evaluate(logits["calibration"], parts["calibration"].labels.numpy(), temperature, config.review_accuracy)
    tested = evaluate(logits["test"], parts["test"].labels.numpy(), temperature, config.review_accuracy)
    checkpoint = save_checkpoint(
        join(config.output_uri, "model.safetensors"),
        Checkpoint(
            spec=spec,
            temperature=temperature,
            min_confidence=watched.review_threshold,
            label_rule=dataclasses.asdict(config.labels),
            accuracy=tested.accuracy,
            ece=tested.ece,
            training=_provenance(config, labels, counts),
        ),
        model,
    )
    metrics = {
        "checkpoint_id": checkpoint.checkpoint_id,
        "galaxies": dict(labels.counts()),
        "unusable": cutouts.unusable,
        "split": {name: dict(zip(spec.classes, c.tolist(), strict=True)) for name, c in counts.items()},
        "temperature": temperature,
        "min_confidence": watched.review_threshold,
        "test": dataclasses.asdict(tested),
        "epochs": [dataclasses.asdict(epoch) for epoch in epochs],
    }
    report_uri = join(config.output_uri, "report", "metrics.json")
    write_atomically(report_uri, (json.dumps(metrics, indent=2) + "\n").encode())
    return {
        "checkpoint_uri": without_secrets(join(config.output_uri, "model.safetensors")),
        "checkpoint_id": checkpoint.checkpoint_id,
        "accuracy": tested.accuracy,
        "ece": tested.ece,
        "report_uri": without_secrets(report_uri),
        "seconds": round(time.monotonic() - started, 3),
    }


def read_galaxies(config: TrainConfig) -> tuple[pa.Table, Labels]:
    """The galaxy table with its cutouts' locations, and the labels, row by row."""
    votes = tuple(dict.fromkeys([*config.labels.columns.values(), *config.labels.other_columns]))
    keep = tuple(dict.fromkeys([*config.galaxies.keep_columns, *votes]))
    galaxies = read_objects(dataclasses.replace(config.galaxies, keep_columns=keep))
    labels = label_votes(galaxies, config.labels)
    logger.info("labels at threshold %g: %s", config.labels.threshold, dict(labels.counts()))
    return galaxies, labels


def _check_counts(counts: dict[str, Any], classes: tuple[str, ...]) -> None:
    for part, per_class in counts.items():
        for name, count in zip(classes, per_class.tolist(), strict=True):
            if count < 2:
                raise InputError(
                    "galaxies.uri", part, f"only {count} galaxies of class {name}: too few for the {part} set"
                )


def _provenance(config: TrainConfig, labels: Labels, counts: dict[str, Any]) -> dict[str, Any]:
    """How the model came to be; no times, hosts or folders, so that the same training gives the same checkpoint."""
    return {
        "network": {**dataclasses.asdict(config.network), "weights": config.network.weights.rpartition("/")[2]},
        "fit": dataclasses.asdict(config.fit),
        "split": dataclasses.asdict(config.split),
        "galaxies": dict(labels.counts()),
        "galaxies_per_split": {part: dict(zip(labels.classes, c.tolist(), strict=True)) for part, c in counts.items()},
        "versions": {name: version(name) for name in ("galaxy-batch", "torch", "timm")},
    }
