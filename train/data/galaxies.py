"""Galaxies with their labels and pixels, and the untrained model: what every process of a training run starts from."""

import dataclasses
import logging
import os

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from galaxy_batch.inputs.manifest import read_objects
from galaxy_batch.model.network import ModelSpec, MorphologyModel, build_model
from train.config import TrainConfig
from train.data.cutouts import load_cutouts
from train.data.labels import AMBIGUOUS, Labels, label_votes, question_of
from train.fit.frozen_features import Examples

__all__ = ["Part", "Rows", "load_part", "new_model", "read_galaxies"]

logger = logging.getLogger(__name__)

Rows = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Part:
    """The galaxies of one part of the split, with what to learn from them."""

    rows: Rows
    """Of the galaxy table."""
    examples: Examples
    unusable: dict[str, int]
    """How many galaxies have no pixels, by status; they are in no row."""


def read_galaxies(config: TrainConfig) -> tuple[pa.Table, Labels]:
    """The galaxy table with its cutouts' locations, and the labels, row by row."""
    questions = [column for question in config.fit.auxiliary_questions for column in question]
    votes = [*question_of(config.labels).columns, *questions]
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
        views=network.views,
    )
    torch.manual_seed(config.fit.seed)
    return build_model(spec, network.weights)


def load_part(config: TrainConfig, galaxies: pa.Table, labels: Labels, rows: Rows, learns: bool) -> Part:
    """Pixels and targets of one part of the split.

    Galaxies without a clear label are in it only where it learns from votes. Calibration and test always ask
    for the clear label.
    """
    from_votes = learns and config.fit.learn_from == "votes"
    wanted = rows if from_votes else rows[labels.label[rows] != AMBIGUOUS]
    threads = config.threads or os.cpu_count() or 1
    network = config.network
    loaded = load_cutouts(galaxies.take(pa.array(wanted)), network.size_px, network.crop_fraction, threads, network.rgb)
    kept = wanted[loaded.rows]
    targets = labels.shares()[kept] if from_votes else np.eye(len(labels.classes))[labels.label[kept]]
    questions = [column for question in config.fit.auxiliary_questions for column in question]
    answers = [galaxies[name].cast(pa.float32()).to_numpy()[kept] for name in questions]
    return Part(
        rows=kept,
        examples=Examples(
            loaded.pixels,
            torch.from_numpy(targets).float(),
            torch.from_numpy(np.stack(answers, axis=1)) if answers else torch.empty(len(kept), 0),
        ),
        unusable=loaded.unusable,
    )
