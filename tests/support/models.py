"""Checkpoints of a tiny network with random weights."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from galaxy_batch.model.checkpoint import Checkpoint
from galaxy_batch.model.embedding import Embedding
from galaxy_batch.model.network import MorphologyModel, build_model
from galaxy_batch.model.saved_model import load_checkpoint, save_checkpoint
from galaxy_batch.model.spec import RANDOM, ModelSpec

MODEL_SIZE_PX = 64
"""Side of the input of these networks."""

_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class SavedModel:
    """A checkpoint on disk."""

    uri: str
    checkpoint: Checkpoint


def save_random_model(path: Path, seed: int, **spec_values: Any) -> SavedModel:
    """Write a checkpoint of timm's smallest network; another seed is another model.

    Args:
        path: of the file.
        seed: of the weights.
        spec_values: further fields of `ModelSpec`, such as `questions` and `views`.
    """
    torch.manual_seed(seed)
    spec = ModelSpec("test_efficientnet", ("smooth", "featured"), MODEL_SIZE_PX, 0.75, _HALF, _HALF, **spec_values)
    about = Checkpoint(spec, temperature=1.3, min_confidence=0.6, label_rule={"threshold": 0.6}, accuracy=0.5, ece=0.1)
    model = build_model(spec, RANDOM)
    if model.questions is not None:  # galaxies differ in their answers and classes
        for head in (model.questions, model.backbone.get_classifier()):  # type: ignore[operator]
            torch.nn.init.normal_(head.weight, std=20)
    return SavedModel(str(path), save_checkpoint(str(path), about, model))


def with_embedding(model: SavedModel, path: Path, size: int) -> SavedModel:
    """The checkpoint with random components, which are another checkpoint."""
    checkpoint, network = load_checkpoint(model.uri)
    features = int(network.backbone.num_features)  # type: ignore[arg-type]
    components, _ = torch.linalg.qr(torch.randn(features, size, generator=torch.Generator().manual_seed(1)))
    network.embedding = Embedding(torch.zeros(features), components.T.contiguous())
    about = dataclasses.replace(checkpoint, spec=dataclasses.replace(checkpoint.spec, embedding_size=size))
    return SavedModel(str(path), save_checkpoint(str(path), about, network))


def random_model(
    architecture: str = "test_efficientnet", classes: tuple[str, ...] = ("smooth", "featured")
) -> MorphologyModel:
    """A model that sees the whole cutout; always the same weights."""
    torch.manual_seed(0)
    return build_model(ModelSpec(architecture, classes, MODEL_SIZE_PX, 1.0, _HALF, _HALF), RANDOM)
