"""Principal components of the training galaxies' features, on which `Embedding` projects."""

import numpy as np
import torch

from galaxy_batch.model.embedding import Embedding
from galaxy_batch.model.network import MorphologyModel, normalise, symmetry
from galaxy_batch.runtime.progress import with_progress
from train.evaluate.familiarity import random_views

__all__ = ["measure_embedding"]

_MAX_SIZE, _GALAXIES_PER_COMPONENT = 64, 10


@torch.no_grad()
def measure_embedding(
    model: MorphologyModel, pixels: torch.Tensor, device: torch.device, seed: int
) -> Embedding | None:
    """Mean and principal components of the pooled features of training galaxies, each in one random symmetry.

    Args:
        model: trained, on `device`; set to eval mode.
        pixels: ``(N, 3, size_px, size_px)`` uint8, of training galaxies; a sample of them is used.
        device: of the model.
        seed: of the sample and its symmetries.

    Returns:
        On `device`, with at most `_MAX_SIZE` components; None for fewer than `_GALAXIES_PER_COMPONENT` galaxies.
    """
    work = random_views(len(pixels), (seed, len(pixels), 1))
    total = sum(len(batch) for _, batch in work)
    size = min(_MAX_SIZE, total // _GALAXIES_PER_COMPONENT)
    if not size:
        return None
    model.eval()
    features = []
    for number, batch in with_progress(work, "embedding", total, lambda item: len(item[1])):
        turned = symmetry(normalise(pixels[batch].to(device), model.spec.mean, model.spec.std), number)
        maps = model.backbone.forward_features(turned.contiguous(memory_format=torch.channels_last))  # type: ignore[operator]
        features.append(model.backbone.forward_head(maps, pre_logits=True).double().cpu())  # type: ignore[operator]
    values = torch.cat(features).numpy()
    mean = values.mean(axis=0)
    _, axes = np.linalg.eigh((values - mean).T @ (values - mean))
    components = np.ascontiguousarray(axes[:, ::-1].T[:size])
    return Embedding(torch.from_numpy(mean).float(), torch.from_numpy(components).float()).to(device)
