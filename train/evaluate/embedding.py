"""Principal components of the training galaxies' features, on which `Embedding` projects."""

import numpy as np
import numpy.typing as npt
import torch

from galaxy_batch.model.embedding import Embedding
from galaxy_batch.model.network import MorphologyModel, normalise, symmetry
from galaxy_batch.runtime.progress import with_progress
from train.evaluate.familiarity import random_views

__all__ = ["measure_embedding", "pooled_features"]

_MAX_SIZE, _GALAXIES_PER_COMPONENT = 64, 10
_BATCH = 64


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
        features.append(_features(model, symmetry(pixels[batch].to(device), number)).double().cpu())
    values = torch.cat(features).numpy()
    mean = values.mean(axis=0)
    _, axes = np.linalg.eigh((values - mean).T @ (values - mean))
    components = np.ascontiguousarray(axes[:, ::-1].T[:size])
    return Embedding(torch.from_numpy(mean).float(), torch.from_numpy(components).float()).to(device)


@torch.no_grad()
def pooled_features(model: MorphologyModel, pixels: torch.Tensor) -> npt.NDArray[np.float32]:
    """The features before the linear head, ``(N, F)``.

    Args:
        model: set to eval mode.
        pixels: ``(N, 3, size_px, size_px)`` uint8, on its device.
    """
    batches = with_progress(torch.split(pixels, _BATCH), "features", len(pixels))
    return np.concatenate([_features(model.eval(), batch).float().cpu().numpy() for batch in batches])


def _features(model: MorphologyModel, pixels: torch.Tensor) -> torch.Tensor:
    inputs = normalise(pixels, model.spec.mean, model.spec.std)
    maps = model.backbone.forward_features(inputs)  # type: ignore[operator]
    features: torch.Tensor = model.backbone.forward_head(maps, pre_logits=True)  # type: ignore[operator]
    return features
