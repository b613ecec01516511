"""Vote fractions of the decision tree, as Dirichlet distributions over the answers of each question."""

import torch
from torch import nn

__all__ = ["VoteHead"]

_LOWEST, _RANGE = -3.0, 8.0  # of the logarithm: concentrations from 0.05 to 148


class VoteHead(nn.Linear):
    """A linear layer from pooled features ``(N, features)`` to concentrations ``(N, answers)``, float32.

    The volunteers' answers to a question then follow a Dirichlet-multinomial distribution (Walmsley et al. 2022, MNRAS
    509, 3966): the concentrations' ratio gives the expected fractions, their sum how sure these are. They are bounded,
    so that no galaxy has an infinite likelihood.

    Args:
        features: size of the pooled features.
        answers: number of answers of all questions.
    """

    def __init__(self, features: int, answers: int) -> None:
        super().__init__(features, answers)
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.bias)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Concentrations ``(N, answers)``."""
        return torch.exp(_LOWEST + _RANGE * torch.sigmoid(super().forward(features).float()))
