"""Statistics of the training galaxies from which the unfamiliarity of a cutout is computed."""

import numpy as np
import numpy.typing as npt
import torch

from galaxy_batch.model.familiarity import STAGES, Familiarity, can_describe, describe
from galaxy_batch.model.network import MorphologyModel, normalise, symmetry
from galaxy_batch.runtime.progress import with_progress

__all__ = ["fit_familiarity", "measure_familiarity", "random_views"]

_FORWARD_BATCH = 64
_MAX_GALAXIES = 4096  # more do not improve the statistics
_MAX_AXES, _GALAXIES_PER_AXIS = 64, 10  # an axis fitted to fewer galaxies is noise
_MIN_SCALE = 0.1  # of a channel, as a share of the median channel's: some channels are nearly always zero
_NOISE_VARIANCE = 0.1  # added along every direction of the scaled descriptions, for rounding and sampling noise


@torch.no_grad()
def measure_familiarity(
    model: MorphologyModel, pixels: torch.Tensor, device: torch.device, seed: int
) -> Familiarity | None:
    """Statistics of the descriptions of training galaxies, each in one random symmetry.

    Args:
        model: trained, on `device`; set to eval mode.
        pixels: ``(N, 3, size_px, size_px)`` uint8, of training galaxies; at most `_MAX_GALAXIES` are sampled.
        device: of the model.
        seed: of the sample and its symmetries.

    Returns:
        On `device`; None if the network does not expose its stages, or for fewer than two galaxies.
    """
    if not can_describe(model.eval().backbone) or len(pixels) < 2:
        return None
    work = random_views(len(pixels), (seed, len(pixels)))
    total = sum(len(batch) for _, batch in work)
    descriptions = []
    for number, batch in with_progress(work, "describing", total, lambda item: len(item[1])):
        turned = symmetry(normalise(pixels[batch].to(device), model.spec.mean, model.spec.std), number)
        stages = model.backbone.forward_intermediates(  # type: ignore[operator]
            turned.contiguous(memory_format=torch.channels_last),
            indices=list(STAGES), stop_early=True, intermediates_only=True,
        )  # fmt: skip
        descriptions.append(describe(stages).double().cpu())
    return fit_familiarity(torch.cat(descriptions).numpy()).to(device)


def random_views(galaxies: int, seed: tuple[int, ...]) -> list[tuple[int, torch.Tensor]]:
    """A sample of at most `_MAX_GALAXIES` galaxies, each in one random symmetry: number of the symmetry, and rows."""
    generator = np.random.default_rng(seed)
    rows = generator.permutation(galaxies)[:_MAX_GALAXIES]
    numbers = generator.integers(0, 8, len(rows))
    return [
        (number, batch)
        for number in range(8)
        for batch in torch.split(torch.from_numpy(rows[numbers == number]), _FORWARD_BATCH)
        if len(batch)
    ]


def fit_familiarity(descriptions: npt.NDArray[np.float64]) -> Familiarity:
    """Statistics of descriptions ``(N, D)``; see `Familiarity`."""
    mean, scale = descriptions.mean(axis=0), descriptions.std(axis=0)
    scale = np.maximum(scale, _MIN_SCALE * max(float(np.median(scale)), 1e-6))
    scaled = (descriptions - mean) / scale
    variance, axes = np.linalg.eigh(scaled.T @ scaled / len(scaled))
    variance, axes = np.maximum(variance[::-1], 0) + _NOISE_VARIANCE, axes[:, ::-1]
    kept = min(_MAX_AXES, max(1, len(scaled) // _GALAXIES_PER_AXIS), len(variance))
    rest = variance[kept:].mean() if kept < len(variance) else _NOISE_VARIANCE
    values = (mean, scale, np.ascontiguousarray(axes[:, :kept]), variance[:kept], np.array([rest]))
    return Familiarity(*(torch.from_numpy(np.asarray(value, np.float32)) for value in values))
