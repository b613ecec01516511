"""Embedding of a cutout: its pooled features along the directions in which the training galaxies differ most."""

import torch
from torch import nn

__all__ = ["Embedding"]


class Embedding(nn.Module):
    """Principal components of pooled features, the largest first, so that the first N of them are an embedding too.

    Source: Walmsley et al. 2022, MNRAS 513, 1581: similar galaxies are near in such a space.

    Args:
        mean: ``(F,)`` of the training galaxies' features.
        components: ``(size, F)``, orthonormal rows.
    """

    mean: torch.Tensor
    components: torch.Tensor

    def __init__(self, mean: torch.Tensor, components: torch.Tensor) -> None:
        super().__init__()
        if components.dim() != 2 or mean.shape != components.shape[1:]:
            raise ValueError(f"components {tuple(components.shape)} do not fit mean {tuple(mean.shape)}")
        self.register_buffer("mean", mean.float())
        self.register_buffer("components", components.float())

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Embeddings ``(N, size)``, float32, of pooled features ``(N, F)``."""
        with torch.autocast(features.device.type, enabled=False):
            return (features.float() - self.mean) @ self.components.T
