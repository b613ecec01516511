"""A training run: votes -> labels -> split -> fit -> calibration -> test metrics -> checkpoint and report."""

import dataclasses
import logging
import os
import time
from collections import Counter
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from galaxy_batch.errors import InputError
from galaxy_batch.model.checkpoint import Checkpoint, agreement
from galaxy_batch.model.network import MorphologyModel
from galaxy_batch.model.output import ModelOutput
from galaxy_batch.model.saved_model import round_to_fp16, save_checkpoint
from galaxy_batch.model.spec import ModelSpec
from galaxy_batch.model.views import margin
from galaxy_batch.storage.files import join, without_secrets
from train.config import TrainConfig
from train.data.galaxies import Part, Rows, load_part, new_model, read_galaxies
from train.data.labels import AMBIGUOUS, Labels
from train.data.splits import Split, split_galaxies
from train.evaluate.calibration import class_probabilities, fit_temperature
from train.evaluate.embedding import measure_embedding
from train.evaluate.evaluation import Evaluation, evaluate
from train.evaluate.familiarity import measure_familiarity
from train.evaluate.question_scores import question_scores
from train.evaluate.results import PartResult, TrainingRun
from train.evaluate.training_warnings import training_warnings
from train.fit.distributed import fit_on_workers
from train.fit.fit import Epoch, first_view_logits, fit, predict, predict_logits
from train.fit.frozen_features import has_bf16
from train.report.report import write_report

__all__ = ["train_model"]

logger = logging.getLogger(__name__)

_MAX_LOADED = 2048  # training galaxies that this process loads when others trained
_STABILITY_VIEWS = 8  # for the limit of instability, where the model itself has one view
_FAMILIAR, _STABLE = 0.99, 0.95  # shares of the calibration galaxies below the limits of UNFAMILIAR and UNSTABLE


def train_model(config: TrainConfig) -> dict[str, Any]:
    """Train, calibrate and evaluate; write the checkpoint, then the report; returns the job's summary.

    Raises:
        InputError: label table, weights or output are unusable, or a class has too few galaxies.
    """
    started = time.monotonic()
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    run = _train_and_evaluate(config)
    warnings = training_warnings(run)
    for warning in warnings:
        logger.warning("%s", warning)
    logger.info("writing the report")
    report_uri = write_report(run, join(config.output_uri, "report"))
    return {
        "checkpoint_uri": without_secrets(_checkpoint_uri(config)),
        "checkpoint_id": run.checkpoint.checkpoint_id,
        "accuracy": run.evaluation.accuracy,
        "ece": run.evaluation.ece,
        "question_rmse": run.question_scores and run.question_scores.rmse,
        "report_uri": without_secrets(report_uri),
        "galaxies": dict(run.labels.counts()),
        **({"verdicts": [dict(origin) for origin in run.labels.verdicts]} if run.labels.verdicts else {}),
        "warnings": warnings,
        "seconds": round(time.monotonic() - started, 3),
    }


def _train_and_evaluate(config: TrainConfig) -> TrainingRun:
    """The run up to the saved checkpoint."""
    started = time.monotonic()
    device = torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")
    galaxies, labels = read_galaxies(config)
    model = new_model(config, labels).to(device)
    split = split_galaxies(galaxies["object_id"], config.split)
    _check_split(split, labels)
    held_out = {
        name: load_part(config, galaxies, labels, rows, learns=False)
        for name, rows in (("calibration", split.calibration), ("test", split.test))
    }
    trained = _fit(config, galaxies, labels, split.train, model, held_out["calibration"], device)
    logger.info("describing training galaxies, for the unfamiliarity of cutouts")
    model.familiarity = measure_familiarity(model, trained.part.examples.pixels, device, config.fit.seed)
    model.embedding = measure_embedding(model, trained.part.examples.pixels, device, config.fit.seed)
    size = 0 if model.embedding is None else len(model.embedding.components)
    model.spec = dataclasses.replace(model.spec, embedding_size=size)
    if config.network.stored_as == "fp16":
        _round_to_fp16(model, held_out["calibration"].examples.pixels, device)
    max_instability = _settle_views(config, model, held_out["calibration"], device)
    parts, votes = {"train": _train_result(galaxies, labels, trained)}, {}
    for name, part in held_out.items():
        logger.info("classifying %d %s galaxies", len(part.rows), name)
        output = predict(model, part.examples.pixels, device).map(lambda array: array.astype(np.float64))
        parts[name] = _held_out_result(galaxies, labels, part, output)
        counts = part.examples.question_counts.numpy()
        votes[name] = question_scores(model.spec.questions, output.concentrations, counts)
    checkpoint, evaluation = _calibrate(config, labels, model.spec, parts, max_instability)
    return TrainingRun(
        config=config,
        checkpoint=_save(config, checkpoint, model, parts["test"], device),
        model=model,
        labels=labels,
        unusable=sum((Counter(part.unusable) for part in held_out.values()), Counter(trained.unusable)),
        parts=parts,
        epochs=tuple(trained.epochs),
        evaluation=evaluation,
        question_scores=votes["test"],
        seconds=round(time.monotonic() - started, 3),
    )


def _round_to_fp16(model: MorphologyModel, pixels: torch.Tensor, device: torch.device) -> None:
    """Round the weights as the checkpoint stores them; the log says how far that moves probabilities."""
    exact = predict_logits(model, pixels, device).softmax(dim=1)
    round_to_fp16(model)
    difference = (predict_logits(model, pixels, device).softmax(dim=1) - exact).abs().max()
    logger.info("fp16 weights move the probabilities of %d galaxies by at most %.1e", len(pixels), difference)


@dataclasses.dataclass(frozen=True)
class _Trained:
    """Epochs and galaxies of a finished fit."""

    epochs: list[Epoch]
    part: Part
    """The training galaxies, or a sample of them if other processes trained."""
    rows: Rows
    """Rows of all training galaxies in the galaxy table."""
    unusable: dict[str, int]


def _fit(
    config: TrainConfig,
    galaxies: pa.Table,
    labels: Labels,
    rows: Rows,
    model: MorphologyModel,
    calibration: Part,
    device: torch.device,
) -> _Trained:
    """Train the model in place, in this process or on many workers."""
    if config.workers == 1:
        part = load_part(config, galaxies, labels, rows, learns=True)
        epochs = fit(model, part.examples, calibration.examples, config.fit, device)
        return _Trained(epochs, part, part.rows, part.unusable)
    shared = fit_on_workers(config, model, galaxies, labels)
    sample = np.random.default_rng(config.fit.seed).permutation(shared.rows)[:_MAX_LOADED]
    part = load_part(config, galaxies, labels, np.sort(sample), learns=True)
    return _Trained(shared.epochs, part, shared.rows, shared.unusable)


def _train_result(galaxies: pa.Table, labels: Labels, trained: _Trained) -> PartResult:
    """The training galaxies, without predictions."""
    part, nothing = trained.part, np.empty(0)
    no_output = ModelOutput(np.empty((0, len(labels.classes))), nothing, nothing, nothing, nothing)
    result = _part_result(galaxies, labels, part.rows, part.examples.pixels, no_output)
    is_sample = len(trained.rows) > len(part.rows)
    return dataclasses.replace(result, drawn_from=labels.label[trained.rows] if is_sample else None)


def _held_out_result(
    galaxies: pa.Table, labels: Labels, part: Part, output: ModelOutput[npt.NDArray[np.float64]]
) -> PartResult:
    """The calibration or test galaxies that have a label, with predictions."""
    clear = labels.label[part.rows] != AMBIGUOUS
    output = output.map(lambda values: values[clear])
    return _part_result(galaxies, labels, part.rows[clear], part.examples.pixels[torch.from_numpy(clear)], output)


def _part_result(
    galaxies: pa.Table,
    labels: Labels,
    rows: Rows,
    pixels: torch.Tensor,
    output: ModelOutput[npt.NDArray[np.float64]],
) -> PartResult:
    return PartResult(
        ids=tuple(map(str, galaxies["object_id"].take(pa.array(rows)).to_pylist())),
        pixels=pixels,
        labels=labels.label[rows],
        votes=labels.votes[rows],
        logits=output.class_logits,
        unfamiliarity=output.unfamiliarity,
        instability=output.instability,
    )


def _calibrate(
    config: TrainConfig,
    labels: Labels,
    spec: ModelSpec,
    parts: dict[str, PartResult],
    max_instability: float | None,
) -> tuple[Checkpoint, Evaluation]:
    """Temperature and review limits from the calibration galaxies, accuracy from the test galaxies."""
    calibration, test = parts["calibration"], parts["test"]
    temperature = fit_temperature(calibration.logits, calibration.labels)
    on_calibration = evaluate(calibration.logits, calibration.labels, temperature, config.review_accuracy)
    on_test = evaluate(test.logits, test.labels, temperature, config.review_accuracy)
    checkpoint = Checkpoint(
        spec=spec,
        temperature=temperature,
        min_confidence=on_calibration.review_threshold,
        label_rule=dataclasses.asdict(config.labels),
        accuracy=on_test.accuracy,
        ece=on_test.ece,
        max_unfamiliarity=_quantile(calibration.unfamiliarity, _FAMILIAR),
        max_instability=max_instability,
        training=_provenance(config, labels, parts),
    )
    return checkpoint, on_test


def _settle_views(config: TrainConfig, model: MorphologyModel, calibration: Part, device: torch.device) -> float | None:
    """Set the limit below which a first view is not sure; returns that of instability, as a quantile over all views.

    The first is a quantile over all calibration galaxies, ambiguous ones too, because a catalog has no labels.
    """
    pixels, share = calibration.examples.pixels, config.network.further_views
    if share < 1 and model.spec.views > 1:
        limit = float(np.quantile(margin(first_view_logits(model, pixels, device)), share))
    else:
        limit = None
    clear = pixels[calibration.examples.targets.sum(dim=1) > 0]
    logger.info("measuring the instability of %d calibration galaxies", len(clear))
    instability = predict(model, clear, device, _STABILITY_VIEWS).instability.astype(np.float64)
    model.spec = dataclasses.replace(model.spec, further_views_below=limit)
    return _quantile(instability, _STABLE)


def _quantile(values: npt.NDArray[np.float64], share: float) -> float | None:
    return None if np.isnan(values).any() else float(np.quantile(values, share))


def _save(
    config: TrainConfig,
    checkpoint: Checkpoint,
    model: MorphologyModel,
    test: PartResult,
    device: torch.device,
) -> Checkpoint:
    """Write the checkpoint; where the processor has bf16, write it again with the agreement of bf16 and fp32.

    Without that measurement catalogs are computed in fp32, so the first file is complete too.
    """
    uri = _checkpoint_uri(config)
    fp16 = config.network.stored_as == "fp16"
    checkpoint = save_checkpoint(uri, checkpoint, model, fp16)
    logger.info("checkpoint %s: %s", checkpoint.checkpoint_id, without_secrets(uri))
    if not has_bf16(device):
        logger.info("no agreement of bf16 with fp32 measured: this processor emulates bf16")
        return checkpoint
    logger.info("measuring the agreement of bf16 with fp32 on %d test galaxies", len(test.pixels))
    with torch.autocast(device.type, torch.bfloat16):
        bf16_logits = predict_logits(model, test.pixels, device).double().numpy()
    bf16, fp32 = (class_probabilities(logits, checkpoint.temperature) for logits in (bf16_logits, test.logits))
    checkpoint = save_checkpoint(
        uri, dataclasses.replace(checkpoint, bf16_agreement=agreement(bf16, fp32)), model, fp16
    )
    logger.info("checkpoint %s, with the agreement of bf16", checkpoint.checkpoint_id)
    return checkpoint


def _checkpoint_uri(config: TrainConfig) -> str:
    return join(config.output_uri, "model.safetensors")


def _check_split(split: Split, labels: Labels) -> None:
    for part, rows in dataclasses.asdict(split).items():
        for number, name in enumerate(labels.classes):
            count = int((labels.label[rows] == number).sum())
            if count < 2:
                raise InputError(
                    "galaxies.uri", part, f"only {count} galaxies of class {name}: too few for the {part} set"
                )


def _provenance(config: TrainConfig, labels: Labels, parts: dict[str, PartResult]) -> dict[str, Any]:
    """Settings, counts and versions; no times, hosts or folders, so that equal runs give equal checkpoints."""
    return {
        "network": {**dataclasses.asdict(config.network), "weights": config.network.weights.rpartition("/")[2]},
        "fit": dataclasses.asdict(config.fit),
        "split": dataclasses.asdict(config.split),
        "galaxies": dict(labels.counts()),
        "galaxies_per_split": {part: len(result.all_labels) for part, result in parts.items()},
        **_verdicts_entry(config, labels),
        "workers": config.workers,
        "versions": {name: version(name) for name in ("galaxy-batch", "torch", "timm")},
    }


def _verdicts_entry(config: TrainConfig, labels: Labels) -> dict[str, Any]:
    """Origin of the verdicts and how they count; nothing without any, as in checkpoints of earlier versions."""
    if not labels.verdicts:
        return {}
    settings = {name: getattr(config.verdicts, name) for name in ("weight", "min_probability", "min_verdicts")}
    return {"verdicts": {**settings, "tables": [dict(origin) for origin in labels.verdicts]}}
