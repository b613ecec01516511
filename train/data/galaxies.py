"""Galaxies with labels and pixels, and the untrained model: the starting point of every process of a training run."""

import dataclasses
import logging
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from galaxy_batch.inputs.manifest import read_objects
from galaxy_batch.model.network import MorphologyModel, build_model
from galaxy_batch.model.spec import ModelSpec
from train.config import TrainConfig
from train.data.cutouts import load_cutouts
from train.data.labels import AMBIGUOUS, Labels, label_votes, question_of
from train.data.question_votes import question_columns, question_counts, questions_of
from train.data.verdicts import with_verdicts

__all__ = ["Examples", "Part", "Rows", "load_part", "new_model", "read_galaxies"]

logger = logging.getLogger(__name__)

Rows = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Examples:
    """Network inputs and training targets of some galaxies."""

    pixels: torch.Tensor
    """``(N, 3, size_px, size_px)`` uint8."""
    targets: torch.Tensor
    """``(N, classes)`` float: probability of each class; one-hot where the target is a label."""
    vote_targets: torch.Tensor
    """``(N, columns)`` float: vote fractions of the auxiliary questions; no columns without any."""
    question_counts: torch.Tensor
    """``(N, answers)`` float: votes for the answers of `labels.questions`; no columns without any."""
    weights: torch.Tensor | None = None
    """``(N,)`` float: weight in the loss of the class; None: all have 1."""

    def __getitem__(self, rows: npt.NDArray[np.bool_]) -> "Examples":
        """Some of the galaxies, by a mask ``(N,)``."""
        mask = torch.from_numpy(rows)
        chosen: dict[str, Any] = {n: None if tensor is None else tensor[mask] for n, tensor in vars(self).items()}
        return dataclasses.replace(self, **chosen)


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of the split (train, calibration or test): its galaxies with a usable cutout."""

    rows: Rows
    """``(N,)``: rows of the galaxy table."""
    examples: Examples
    unusable: dict[str, int]
    """Number of galaxies left out, by status of the cutout."""


def read_galaxies(config: TrainConfig) -> tuple[pa.Table, Labels]:
    """The galaxy table with the locations of its cutouts, and the labels, row by row.

    Galaxies without votes in the second table of a join are left out, unless `config.verdicts` has a verdict on them.
    """
    votes = [*question_of(config.labels).columns, *_auxiliary_columns(config), *question_columns(config.labels)]
    keep = tuple(dict.fromkeys([*config.galaxies.keep_columns, *votes]))
    objects = read_objects(dataclasses.replace(config.galaxies, keep_columns=keep))
    voted = _have_votes(objects, config, votes)
    galaxies = objects.filter(voted)
    labels = label_votes(galaxies, config.labels)
    if config.verdicts.uris:
        without_votes = objects.filter(pc.invert(voted))
        galaxies, labels = with_verdicts(galaxies, labels, without_votes, votes, config.verdicts, config.split)
    logger.info("labels at threshold %g: %s", config.labels.threshold, dict(labels.counts()))
    return galaxies, labels


def _have_votes(galaxies: pa.Table, config: TrainConfig, votes: Sequence[str]) -> pa.Array:
    """Which galaxies have a row in the second table, where that has votes; all, where it has none."""
    joined = [name for name in votes if config.galaxies.join is not None and name in config.galaxies.join.columns]
    if not joined:
        return pa.array(np.ones(len(galaxies), np.bool_))
    voted = np.any([galaxies[name].is_valid().to_numpy() for name in joined], axis=0)
    if not voted.all():
        logger.warning("excluded, no votes: %d of %d galaxies", (~voted).sum(), len(voted))
    return pa.array(voted)


def new_model(config: TrainConfig, labels: Labels) -> MorphologyModel:
    """The untrained model of a config; the seed determines the initial head."""
    network = config.network
    spec = ModelSpec(
        architecture=network.architecture,
        classes=labels.classes,
        size_px=network.size_px,
        crop_fraction=network.crop_fraction,
        mean=(network.mean[0], network.mean[1], network.mean[2]),
        std=(network.std[0], network.std[1], network.std[2]),
        views=network.views,
        questions=questions_of(config.labels),
    )
    torch.manual_seed(config.fit.seed)
    return build_model(spec, network.weights)


def load_part(config: TrainConfig, galaxies: pa.Table, labels: Labels, rows: Rows, learns: bool) -> Part:
    """Pixels and targets of one part of the split.

    Args:
        config: labels, network and threads.
        galaxies: the galaxy table.
        labels: of the galaxy table.
        rows: of the galaxy table: the galaxies of this part.
        learns: whether this is the training set. Then ambiguous galaxies are left out, or, with `learn_from = "votes"`,
            included, and vote shares are the target. Calibration and test include them without a target, for what does
            not depend on labels.
    """
    from_votes = learns and config.fit.learn_from == "votes"
    wanted = rows if from_votes or not learns else rows[labels.label[rows] != AMBIGUOUS]
    if learns and labels.weights is not None:
        wanted = wanted[labels.weights[wanted] > 0]
    threads = config.threads or os.cpu_count() or 1
    network = config.network
    loaded = load_cutouts(galaxies.take(pa.array(wanted)), network.size_px, network.crop_fraction, threads, network.rgb)
    kept = wanted[loaded.rows]
    targets = labels.shares()[kept] if from_votes else _one_hot(labels.label[kept], len(labels.classes))
    votes = [galaxies[name].cast(pa.float32()).to_numpy()[kept] for name in _auxiliary_columns(config)]
    return Part(
        rows=kept,
        examples=Examples(
            loaded.pixels,
            torch.from_numpy(targets).float(),
            torch.from_numpy(np.stack(votes, axis=1)) if votes else torch.empty(len(kept), 0),
            torch.from_numpy(question_counts(galaxies.take(pa.array(kept)), config.labels)),
            torch.from_numpy(labels.weights[kept]) if learns and labels.weights is not None else None,
        ),
        unusable=loaded.unusable,
    )


def _one_hot(label: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float64]:
    """``(N, classes)``; zeros for ambiguous galaxies."""
    encoded: npt.NDArray[np.float64] = (label[:, None] == np.arange(classes)).astype(np.float64)
    return encoded


def _auxiliary_columns(config: TrainConfig) -> list[str]:
    return [column for question in config.fit.auxiliary_questions for column in question]
