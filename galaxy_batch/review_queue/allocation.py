"""How many galaxies of each stratum to look at, to estimate the accuracy of the whole catalog most precisely."""

import numpy as np
import numpy.typing as npt

__all__ = ["optimal_allocation"]

_FEWEST = 5
"""Rows of each stratum, so that its own accuracy can be estimated."""
_SUREST = 0.99
"""Confidence above which a stratum is not believed: a model that is too sure must not hide its own errors."""

Ints = npt.NDArray[np.int64]


def optimal_allocation(size: int, population: Ints, confidence: npt.NDArray[np.float64]) -> Ints:
    """Rows to draw of each stratum, in proportion to its rows and to the expected standard deviation of its accuracy.

    This is the optimal allocation of Neyman (1934, J. R. Stat. Soc. 97, 558), with the mean confidence as the expected
    accuracy. The confidence decides only how many are drawn: the estimate is unbiased whether or not it is right.

    Args:
        size: about how many rows to draw of all strata; more where each has to have its `_FEWEST`.
        population: rows of each stratum, ``(S,)``.
        confidence: mean confidence of each stratum, ``(S,)``.

    Returns:
        ``(S,)``, at most the population.
    """
    expected = np.clip(confidence, 0, _SUREST)
    spread = population * np.sqrt(expected * (1 - expected))
    share = spread / max(spread.sum(), 1e-300)
    drawn: Ints = np.maximum(np.rint(size * share).astype(np.int64), _FEWEST)
    return np.minimum(drawn, population)
