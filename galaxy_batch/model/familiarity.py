"""Distance of a cutout from those that a model was trained on, in a space of texture descriptions.

A description is the standard deviation, over the cutout, of every channel in the first stages of the network. These
stages respond to edges, noise, colours and points of light, whatever the class: stars, trails, error pages and empty
frames differ there from galaxies, while the last features separate only the classes. Means are not used: most of a
cutout is sky, whose level varies less between cutouts than bf16 rounds.
"""

from collections.abc import Sequence

import torch
from torch import nn

__all__ = ["STAGES", "Familiarity", "can_describe", "describe"]

STAGES = (0, 1, 2, 3)
"""Stages of the network, in timm's numbering, that descriptions are made of: in an EfficientNet or a ResNet, those with
maps of a half to a sixteenth of the cutout's side."""


class Familiarity(nn.Module):
    """Gaussian of the training galaxies' descriptions, as probabilistic principal components.

    Source: Tipping & Bishop 1999, J. R. Statist. Soc. B 61, 611.

    Args:
        mean: ``(D,)`` of the descriptions.
        scale: ``(D,)``, their standard deviations, positive.
        axes: ``(D, k)``, orthonormal: the directions of largest variance of the scaled descriptions.
        variance: ``(k,)`` along these.
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
    """Descriptions ``(N, D)``, float32, from the activations ``(N, channels, h, w)`` of the stages."""
    maps = [stage.float().flatten(2) for stage in stages]
    return torch.cat([(m - m.mean(dim=2, keepdim=True)).square().mean(dim=2).sqrt() for m in maps], dim=1)


def can_describe(backbone: nn.Module) -> bool:
    """Whether a timm model gives the activations of its stages; nearly all do."""
    return hasattr(backbone, "forward_intermediates")
