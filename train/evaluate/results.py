"""Results of a training run, as its report reads them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from galaxy_batch.model.checkpoint import Checkpoint
from galaxy_batch.model.network import MorphologyModel
from train.config import TrainConfig
from train.data.labels import Labels
from train.evaluate.evaluation import Evaluation
from train.evaluate.question_scores import QuestionScores
from train.fit.fit import Epoch

__all__ = ["PartResult", "TrainingRun"]


@dataclass(frozen=True)
class PartResult:
    """Galaxies of one part of the split (train, calibration or test), with the model's outputs."""

    ids: tuple[str, ...]
    """``(n,)``: object ids, as text."""
    pixels: torch.Tensor
    """``(n, 3, size_px, size_px)`` uint8: the network's input."""
    labels: npt.NDArray[np.int64]
    """``(n,)``: position in the classes."""
    votes: npt.NDArray[np.float64]
    """``(n, classes)``: fraction of the volunteers for each class."""
    logits: npt.NDArray[np.float64]
    """``(n, classes)``, before the temperature; empty ``(0, classes)`` for the training galaxies."""
    unfamiliarity: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """``(n,)``, as in `ModelOutput`; empty where `logits` is."""
    instability: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """``(n,)``, as in `ModelOutput`; empty where `logits` is."""
    drawn_from: npt.NDArray[np.int64] | None = None
    """``(all,)``: labels of the whole part, where the galaxies here are a sample of it."""

    @property
    def all_labels(self) -> npt.NDArray[np.int64]:
        """``(all,)``: labels of the whole part."""
        return self.labels if self.drawn_from is None else self.drawn_from


@dataclass(frozen=True)
class TrainingRun:
    """A finished training run."""

    config: TrainConfig
    checkpoint: Checkpoint
    model: MorphologyModel
    labels: Labels
    """Of every galaxy in the label table, including the ambiguous ones."""
    unusable: Mapping[str, int]
    """Number of galaxies without a usable cutout, by status."""
    parts: Mapping[str, PartResult]
    """`train`, `calibration`, `test`."""
    epochs: tuple[Epoch, ...]
    evaluation: Evaluation
    """Of the test galaxies."""
    seconds: float
    question_scores: QuestionScores | None = None
    """Of the test galaxies, ambiguous ones too; None without questions."""
