"""The training run: votes -> labels -> split -> fit -> calibration -> held-out numbers -> checkpoint and report."""

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

from galaxy_batch.errors import InputError
from galaxy_batch.model.checkpoint import Checkpoint, agreement, save_checkpoint
from galaxy_batch.model.network import MorphologyModel
from galaxy_batch.model.output import ModelOutput
from galaxy_batch.storage.files import join, without_secrets
from train.config import TrainConfig
from train.data.galaxies import Part, Rows, load_part, new_model, read_galaxies
from train.data.labels import Labels
from train.data.splits import Split, split_galaxies
from train.evaluate.calibration import class_probabilities, fit_temperature
from train.evaluate.evaluation import evaluate
from train.evaluate.familiarity import measure_familiarity
from train.evaluate.results import PartResult, TrainingRun
from train.fit.distributed import fit_on_workers
from train.fit.fit import Epoch, fit, predict, predict_logits
from train.report.report import write_report

__all__ = ["train_model"]

logger = logging.getLogger(__name__)

_DRAWN = 2048  # training galaxies that are described and may be shown, when others than this process trained
_STABILITY_VIEWS = 8  # a model of one view has its limit of instability from so many, if it is ever asked
_FAMILIAR, _STABLE = 0.99, 0.95  # shares of the calibration galaxies that are not flagged UNFAMILIAR, UNSTABLE


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
    held_out = {
        name: load_part(config, galaxies, labels, rows, learns=False)
        for name, rows in (("calibration", split.calibration), ("test", split.test))
    }
    learned = _learn(config, galaxies, labels, split.train, model, held_out["calibration"], device)
    model.familiarity = measure_familiarity(model, learned.shown.examples.pixels, device, config.fit.seed)
    results = {
        "train": _result(galaxies, labels, learned.shown, learned.rows),
        **{name: _result(galaxies, labels, part, part.rows, model, device) for name, part in held_out.items()},
    }
    calibration, test = results["calibration"], results["test"]
    temperature = fit_temperature(calibration.logits, calibration.labels)
    watched = evaluate(calibration.logits, calibration.labels, temperature, config.review_accuracy)
    tested = evaluate(test.logits, test.labels, temperature, config.review_accuracy)
    max_unfamiliarity, max_instability = _limits(model, held_out["calibration"], calibration, device)
    checkpoint = save_checkpoint(
        join(config.output_uri, "model.safetensors"),
        Checkpoint(
            spec=model.spec,
            temperature=temperature,
            min_confidence=watched.review_threshold,
            label_rule=dataclasses.asdict(config.labels),
            accuracy=tested.accuracy,
            ece=tested.ece,
            max_unfamiliarity=max_unfamiliarity,
            max_instability=max_instability,
            bf16_agreement=_bf16_agreement(model, held_out["test"], test.logits, temperature, device),
            training=_provenance(config, labels, results),
        ),
        model,
    )
    unusable: dict[str, int] = {}
    for counts in (learned.unusable, *(part.unusable for part in held_out.values())):
        for status, count in counts.items():
            unusable[status] = unusable.get(status, 0) + count
    seconds = round(time.monotonic() - started, 3)
    run = TrainingRun(config, checkpoint, model, labels, unusable, results, tuple(learned.epochs), tested, seconds)
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


@dataclasses.dataclass(frozen=True)
class _Learned:
    """What became of the training galaxies."""

    epochs: list[Epoch]
    shown: Part
    """All of them, or a sample where other processes trained."""
    rows: Rows
    """Of the galaxy table: all of them."""
    unusable: dict[str, int]


def _learn(
    config: TrainConfig,
    galaxies: pa.Table,
    labels: Labels,
    rows: Rows,
    model: MorphologyModel,
    calibration: Part,
    device: torch.device,
) -> _Learned:
    """Train the model in place, here or on many workers."""
    if config.workers == 1:
        part = load_part(config, galaxies, labels, rows, learns=True)
        epochs = fit(model, part.examples, calibration.examples, config.fit, device)
        return _Learned(epochs, part, part.rows, part.unusable)
    shared = fit_on_workers(config, model, galaxies, labels)
    drawn = np.random.default_rng(config.fit.seed).permutation(shared.rows)[:_DRAWN]
    shown = load_part(config, galaxies, labels, np.sort(drawn), learns=True)
    return _Learned(shared.epochs, shown, shared.rows, shared.unusable)


def _result(
    galaxies: pa.Table,
    labels: Labels,
    part: Part,
    rows: Rows,
    model: MorphologyModel | None = None,
    device: torch.device | None = None,
) -> PartResult:
    """The galaxies of a part, of which `rows` are all; with logits where there is a model."""
    pixels = part.examples.pixels
    output = ModelOutput(np.empty((0, len(labels.classes))), np.empty(0), np.empty(0))
    if model is not None and device is not None:
        output = predict(model, pixels, device).map(lambda tensor: tensor.double().numpy())
    return PartResult(
        ids=tuple(map(str, galaxies["object_id"].take(pa.array(part.rows)).to_pylist())),
        pixels=pixels,
        labels=labels.label[part.rows],
        votes=labels.votes[part.rows],
        logits=output.class_logits,
        unfamiliarity=output.unfamiliarity,
        instability=output.instability,
        drawn_from=None if len(rows) == len(part.rows) else labels.label[rows],
    )


def _limits(
    model: MorphologyModel, part: Part, calibration: PartResult, device: torch.device
) -> tuple[float | None, float | None]:
    """Limits of unfamiliarity and instability that few calibration galaxies exceed; None where nothing is known."""
    instability = calibration.instability
    if model.spec.views == 1:
        model.stability_views = _STABILITY_VIEWS
        instability = predict(model, part.examples.pixels, device).instability.double().numpy()
        model.stability_views = 1
    return _exceeded_by_few(calibration.unfamiliarity, _FAMILIAR), _exceeded_by_few(instability, _STABLE)


def _exceeded_by_few(values: npt.NDArray[np.float64], share: float) -> float | None:
    return None if np.isnan(values).any() else float(np.quantile(values, share))


def _bf16_agreement(
    model: MorphologyModel,
    part: Part,
    logits: npt.NDArray[np.float64],
    temperature: float,
    device: torch.device,
) -> dict[str, float]:
    """What bf16 changes; see `Checkpoint.bf16_agreement`."""
    with torch.autocast(device.type, torch.bfloat16):
        rounded = predict_logits(model, part.examples.pixels, device).double().numpy()
    return agreement(class_probabilities(rounded, temperature), class_probabilities(logits, temperature))


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
        "galaxies_per_split": {part: len(result.all_labels) for part, result in results.items()},
        "workers": config.workers,
        "versions": {name: version(name) for name in ("galaxy-batch", "torch", "timm")},
    }
