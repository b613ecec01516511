"""How far a cutout is from those that a model was trained on: a distance between descriptions of its texture.

A description is the standard deviation, over the cutout, of every channel in the first stages of the network. These
stages see edges, noise, colours and points of light, and know little of classes: stars, trails, error pages and empty
frames differ there from galaxies, while the last features tell no more than the classes apart. Means are left out: most
of a cutout is sky, whose level hardly differs from one to the next, so that the rounding of bf16 would be far more than
that.
"""

from collections.abc import Sequence

import torch
from torch import nn

__all__ = ["STAGES", "Familiarity", "can_describe", "describe"]

STAGES = (0, 1, 2, 3)
"""Stages of the network that are described, in timm's numbering: those whose maps have a half to a sixteenth of the
cutout's side in an EfficientNet or a ResNet."""


class Familiarity(nn.Module):
    """Statistics of the training galaxies' descriptions.

    They are a Gaussian with few axes of their own: probabilistic principal components (Tipping & Bishop 1999,
    J. R. Statist. Soc. B 61, 611).

    Args:
        mean: ``(D,)``, of the descriptions.
        scale: ``(D,)``, their standard deviations, above 0.
        axes: ``(D, k)``, orthonormal: the directions of largest variance of the scaled descriptions.
        variance: ``(k,)``, along these.
        rest: ``(1,)``, the mean variance along all other directions.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    axes: torch.Tensor
    variance: torch.Tensor
    rest: torch.Tensor

    def __init__(
        self,
        mean: torch.Tensor,
        scale: torch.Tensor,
        axes: torch.Tensor,
        variance: torch.Tensor,
        rest: torch.Tensor,
    ) -> None:
        super().__init__()
        if axes.dim() != 2 or mean.shape != scale.shape or axes.shape != (*mean.shape, *variance.shape):
            raise ValueError(f"axes {tuple(axes.shape)} do not fit mean {tuple(mean.shape)}, {tuple(variance.shape)}")
        for name, tensor in {
            "mean": mean, "scale": scale, "axes": axes, "variance": variance, "rest": rest.reshape(1)
        }.items():  # fmt: skip
            self.register_buffer(name, tensor.float())

    def forward(self, descriptions: torch.Tensor) -> torch.Tensor:
        """Squared distances ``(N,)`` of descriptions ``(N, D)``, divided by D: about 1 for a training galaxy."""
        with torch.autocast(descriptions.device.type, enabled=False):
            scaled = (descriptions.float() - self.mean) / self.scale
            along = scaled @ self.axes
            outside = ((scaled * scaled).sum(dim=1) - (along * along).sum(dim=1)).clamp(min=0)
            return ((along * along / self.variance).sum(dim=1) + outside / self.rest) / len(self.mean)


def describe(stages: Sequence[torch.Tensor]) -> torch.Tensor:
    """Descriptions ``(N, D)``, float32, of the activations ``(N, channels, h, w)`` of some stages of N cutouts."""
    flat = [stage.float().flatten(2) for stage in stages]
    return torch.cat([(f - f.mean(dim=2, keepdim=True)).square().mean(dim=2).sqrt() for f in flat], dim=1)


def can_describe(backbone: nn.Module) -> bool:
    """Whether the activations of a timm model's stages can be had; of nearly all they can."""
    return hasattr(backbone, "forward_intermediates")
