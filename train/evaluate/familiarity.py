"""What the training galaxies look like to the network: the statistics that tell an unfamiliar cutout."""

import numpy as np
import numpy.typing as npt
import torch

from galaxy_batch.model.familiarity import STAGES, Familiarity, can_describe, describe
from galaxy_batch.model.network import MorphologyModel, normalise, symmetry

__all__ = ["fit_familiarity", "measure_familiarity"]

_FORWARD_BATCH = 64
_MOST_GALAXIES = 4096  # more would not make the statistics better
_AXES, _GALAXIES_PER_AXIS = 64, 10  # an axis that few galaxies agree on is chance
_LEAST_SCALE = 0.1  # of a channel, as a share of the median channel's: some are hardly ever awake
_FLOOR = 0.1  # added to the variance of every direction of scaled descriptions: what rounding and chance may change


@torch.no_grad()
def measure_familiarity(
    model: MorphologyModel, pixels: torch.Tensor, device: torch.device, seed: int
) -> Familiarity | None:
    """Describe training galaxies, each in one of its symmetries, and gather the statistics.

    Args:
        model: trained, on `device`; it is put in eval mode.
        pixels: ``(N, 3, size_px, size_px)`` uint8, of galaxies that trained; of many, some thousands are drawn.
        device: where to compute.
        seed: draws the galaxies and their symmetries.

    Returns:
        The statistics, on `device`; None where the network's stages cannot be had, or there are fewer than two
        galaxies.
    """
    if not can_describe(model.eval().backbone) or len(pixels) < 2:
        return None
    draw = np.random.default_rng((seed, len(pixels)))
    rows = draw.permutation(len(pixels))[:_MOST_GALAXIES]
    numbers = draw.integers(0, 8, len(rows))
    found = []
    for number in range(8):
        for batch in torch.split(pixels[torch.from_numpy(rows[numbers == number])], _FORWARD_BATCH):
            if len(batch):
                turned = symmetry(normalise(batch.to(device), model.spec.mean, model.spec.std), number)
                stages = model.backbone.forward_intermediates(  # type: ignore[operator]
                    turned.contiguous(memory_format=torch.channels_last),
                    indices=list(STAGES), stop_early=True, intermediates_only=True,
                )  # fmt: skip
                found.append(describe(stages).double().cpu())
    return fit_familiarity(torch.cat(found).numpy()).to(device)


def fit_familiarity(descriptions: npt.NDArray[np.float64]) -> Familiarity:
    """The statistics of descriptions ``(N, D)``; see `Familiarity`."""
    mean, scale = descriptions.mean(axis=0), descriptions.std(axis=0)
    scale = np.maximum(scale, _LEAST_SCALE * max(float(np.median(scale)), 1e-6))
    scaled = (descriptions - mean) / scale
    variance, axes = np.linalg.eigh(scaled.T @ scaled / len(scaled))
    variance, axes = np.maximum(variance[::-1], 0) + _FLOOR, axes[:, ::-1]
    kept = min(_AXES, max(1, len(scaled) // _GALAXIES_PER_AXIS), len(variance))
    rest = variance[kept:].mean() if kept < len(variance) else _FLOOR
    values = (mean, scale, np.ascontiguousarray(axes[:, :kept]), variance[:kept], np.array([rest]))
    return Familiarity(*(torch.from_numpy(np.asarray(value, np.float32)) for value in values))
