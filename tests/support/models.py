"""Checkpoints of a tiny network with random weights."""

from dataclasses import dataclass
from pathlib import Path

import torch

from galaxy_batch.model.checkpoint import Checkpoint
from galaxy_batch.model.network import build_model
from galaxy_batch.model.saved_model import save_checkpoint
from galaxy_batch.model.spec import RANDOM, ModelSpec


@dataclass(frozen=True)
class SavedModel:
    """A checkpoint on disk."""

    uri: str
    checkpoint: Checkpoint


def save_random_model(path: Path, seed: int) -> SavedModel:
    """Write a checkpoint of timm's smallest network; another seed is another model."""
    torch.manual_seed(seed)
    spec = ModelSpec("test_efficientnet", ("smooth", "featured"), 64, 0.75, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    about = Checkpoint(spec, temperature=1.3, min_confidence=0.6, label_rule={"threshold": 0.6}, accuracy=0.5, ece=0.1)
    return SavedModel(str(path), save_checkpoint(str(path), about, build_model(spec, RANDOM)))
