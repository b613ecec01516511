"""One phase of a fit: trainable part, optimiser, schedule, averaged weights."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from galaxy_batch.model.network import MorphologyModel
from galaxy_batch.runtime.progress import with_progress
from train.config import FitConfig, Phase
from train.data.galaxies import Examples
from train.fit.frozen_features import FrozenFeatures
from train.fit.layers import Layers

__all__ = ["FORWARD_BATCH", "PhaseRun", "World", "auxiliary_head", "averaging_decay", "class_loss", "votes_loss"]

logger = logging.getLogger(__name__)

FORWARD_BATCH = 64
"""Batch size of forward passes without gradients."""
_WARM_UP = 0.1  # share of the cosine schedule with a rising learning rate
_MIN_WINDOWS = 5  # a phase has at least this many times the steps that the moving average of the weights covers


@dataclass(frozen=True)
class World:
    """Rank of this worker and number of data-parallel workers."""

    rank: int = 0
    size: int = 1


class _NoAuxiliaryHead(nn.Module):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features[:, :0]


def auxiliary_head(features: int, columns: int) -> nn.Module:
    """Linear head for the vote columns of the auxiliary questions; its output is ``(N, 0)`` without any."""
    return nn.Linear(features, columns) if columns else _NoAuxiliaryHead()


class _TrainablePart(nn.Module):
    """Trainable blocks, head and auxiliary head in one module, which DistributedDataParallel requires."""

    def __init__(self, layers: Layers, phase: Phase, auxiliary: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*layers.upper(phase.blocks))
        self.head, self.auxiliary = layers.head, auxiliary
        self.questions = layers.model.questions if layers.model.questions is not None else _NoAuxiliaryHead()

    def forward(self, activations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        features = self.blocks(activations)
        return self.head(features), self.auxiliary(features), self.questions(features)


class PhaseRun:
    """Optimiser, schedule and averaged weights of one phase."""

    def __init__(
        self,
        layers: Layers,
        phase: Phase,
        auxiliary: nn.Module,
        config: FitConfig,
        device: torch.device,
        world: World,
        galaxies: int,
    ) -> None:
        self.model, self.phase, self.config, self.device, self.world = layers.model, phase, config, device, world
        part = _TrainablePart(layers, phase, auxiliary)
        self.answers = tuple(len(question.answers) for question in self.model.spec.questions)
        self.part: nn.Module = DistributedDataParallel(part) if world.size > 1 else part
        self.optimiser = torch.optim.AdamW(_parameter_groups(part, config.weight_decay), lr=phase.learning_rate)
        self.galaxies, self.batch_size = galaxies, max(2, config.batch_size // world.size)
        steps = -(-galaxies // self.batch_size) * phase.epochs
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, lambda step: 1.0 if config.schedule == "constant" else _cosine(step, steps)
        )
        self.averaged: AveragedModel | None = None
        if config.averaging and phase.blocks:
            average = get_ema_multi_avg_fn(averaging_decay(config.averaging, steps))  # type: ignore[no-untyped-call]
            self.averaged = AveragedModel(self.model, multi_avg_fn=average, use_buffers=True)

    def epoch(self, train: Examples, features: FrozenFeatures, number: int) -> tuple[float, float]:
        """One pass over the galaxies: mean loss and accuracy."""
        loss_sum, correct, galaxies = 0.0, 0, 0
        order = np.random.default_rng((self.config.seed, self.phase.blocks, number, self.world.rank))
        rows_in_order = np.resize(order.permutation(len(train.targets)), self.galaxies)
        batches = _batches(rows_in_order, self.batch_size)
        for rows in with_progress(batches, f"epoch {number}", len(rows_in_order)):
            activations = features.batch(rows, number - 1, self.phase)
            targets, vote_targets = train.targets[rows].to(self.device), train.vote_targets[rows].to(self.device)
            with torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
                logits, auxiliary, concentrations = self.part(activations)
            weights = None if train.weights is None else train.weights[rows].to(self.device)
            loss = class_loss(logits.float(), targets, weights)
            loss = loss + self.config.auxiliary_weight * _auxiliary_loss(
                auxiliary.float(), vote_targets, self.config.auxiliary_sizes
            )
            if self.answers:
                counts = train.question_counts[rows].to(self.device)
                loss = loss + self.config.question_weight * votes_loss(concentrations, counts, self.answers)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            self.schedule.step()
            if self.averaged is not None:
                self.averaged.update_parameters(self.model)
            loss_sum += float(loss.detach()) * len(rows)
            correct += int((logits.argmax(1) == targets.argmax(1)).sum())
            galaxies += len(rows)
        return loss_sum / galaxies, correct / galaxies

    def current_model(self) -> MorphologyModel:
        """The model to use at this point: the averaged one if weights are averaged."""
        if self.averaged is None:
            return self.model
        averaged = self.averaged.module
        assert isinstance(averaged, MorphologyModel)
        return averaged

    def finish(self, train: Examples, features: FrozenFeatures) -> None:
        """Copy the averaged weights into the model and recompute its batch norm statistics for them."""
        if self.averaged is None:
            return
        self.model.load_state_dict(self.current_model().state_dict())
        if self.config.batch_norm == "train":
            self._measure_batch_norms(train, features)
            self.averaged.module.load_state_dict(self.model.state_dict())

    @torch.no_grad()
    def _measure_batch_norms(self, train: Examples, features: FrozenFeatures) -> None:
        """Statistics over all training galaxies with the averaged weights (Izmailov et al. 2018, UAI)."""
        norms = [
            module
            for module in self.part.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
        ]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # cumulative mean over all batches
        for rows in _batches(np.arange(len(train.targets)), FORWARD_BATCH):
            self.part(features.batch(rows, 0, self.phase))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    def state(self) -> dict[str, Any]:
        """What the next epoch needs beside the weights."""
        averaged = None if self.averaged is None else self.averaged.state_dict()
        return {"optimiser": self.optimiser.state_dict(), "schedule": self.schedule.state_dict(), "averaged": averaged}

    def load(self, state: dict[str, Any]) -> None:
        """Restore a `state`."""
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])


def averaging_decay(decay: float, steps: int) -> float:
    """Decay of the moving average of the weights, for a phase of `steps` steps.

    The average covers about ``1 / (1 - decay)`` steps: at most a fifth of the phase, so that the weights of the first
    steps have a share below 1 % in the result.
    """
    bounded = min(decay, max(0.0, 1 - _MIN_WINDOWS / max(steps, 1)))
    if bounded < decay:
        logger.info("weight averaging: decay %.3g instead of %g, for a phase of %d steps", bounded, decay, steps)
    return bounded


def _parameter_groups(part: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    parameters = [p for p in part.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]


def _batches(order: npt.NDArray[np.int64], size: int) -> Iterator[npt.NDArray[np.int64]]:
    """Batches of an epoch; a final batch of one galaxy is dropped, because batch norm needs at least two."""
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        if len(rows) > 1 or len(order) == 1:
            yield rows


def _auxiliary_loss(logits: torch.Tensor, vote_targets: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
    """Sum over questions of the cross entropy; vote fractions weight it by the share of volunteers asked."""
    total = logits.new_zeros(())
    questions = zip(logits.split(sizes, 1), vote_targets.split(sizes, 1), strict=True)  # type: ignore[no-untyped-call]
    for question_logits, fractions in questions:
        total = total - (fractions * F.log_softmax(question_logits, dim=1)).sum(dim=1).mean()
    return total


def class_loss(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Cross entropy, as the weighted mean over galaxies.

    Args:
        logits: ``(N, classes)``.
        targets: ``(N, classes)``, probabilities.
        weights: ``(N,)``; None for the plain mean.
    """
    if weights is None:
        return F.cross_entropy(logits, targets)
    return (F.cross_entropy(logits, targets, reduction="none") * weights).sum() / weights.sum()


def votes_loss(concentrations: torch.Tensor, counts: torch.Tensor, answers: Sequence[int]) -> torch.Tensor:
    """Mean over galaxies of the negative log likelihood of their votes, divided by their number of volunteers.

    The votes for each question follow a Dirichlet-multinomial distribution (Walmsley et al. 2022, MNRAS 509, 3966), up
    to a constant of the votes. A question counts as much as volunteers were asked it.

    Args:
        concentrations: ``(N, answers)``, positive.
        counts: ``(N, answers)`` votes, not necessarily whole; the first question is asked of every volunteer.
        answers: number of answers of each question.
    """
    total = concentrations.new_zeros(len(counts))
    by_question = zip(concentrations.split(answers, 1), counts.split(answers, 1), strict=True)  # type: ignore[no-untyped-call]
    for alpha, votes in by_question:
        alpha_sum, asked = alpha.sum(1), votes.sum(1)
        total = total + torch.lgamma(alpha_sum + asked) - torch.lgamma(alpha_sum)
        total = total - (torch.lgamma(alpha + votes) - torch.lgamma(alpha)).sum(1)
    volunteers: torch.Tensor = counts[:, : answers[0]].sum(1).clamp(min=1)
    return (total / volunteers).mean()


def _cosine(step: int, total: int) -> float:
    """Learning rate factor: linear rise, then half-cosine decay to zero (Loshchilov & Hutter 2017, ICLR)."""
    return min(1.0, (step + 1) / (total * _WARM_UP)) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))
