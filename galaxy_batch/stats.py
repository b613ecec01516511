"""Shares, their intervals, and standard errors of their differences, from counts."""

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

__all__ = ["Interval", "difference_error", "share", "wilson_interval"]

Interval = tuple[float, float]


def share(part: float, whole: float) -> float:
    """A part of a whole; nan if the whole is 0."""
    return float(part / whole) if whole else math.nan


def wilson_interval(hits: int, total: int) -> Interval:
    """95% confidence interval of a share (Wilson 1927, JASA 22, 209); (0, 1) for a total of 0."""
    if not total:
        return 0.0, 1.0
    interval = binomtest(hits, total).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def difference_error(
    first: tuple[npt.ArrayLike, npt.ArrayLike],
    second: tuple[npt.ArrayLike, npt.ArrayLike],
    shared: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike, npt.ArrayLike],
) -> npt.NDArray[np.float64]:
    """Standard error of the difference of two shares whose samples may have members in common.

    The variance is p1 q1 / n1 + p2 q2 / n2 − 2 c n12 / (n1 n2), where c is the covariance of the n12 common members
    (partially overlapping samples: Derrick et al. 2015, J. Appl. Quant. Methods 10(3), 1): the textbook variance of
    independent samples for n12 = 0, McNemar's for pairs. Half a member is added to each of the four cells of a pair,
    that is a hit and a miss to each sample, so that small samples and shares of 0 or 1 have an error (Agresti & Caffo
    2000, Am. Stat. 54, 280; Agresti & Min 2005, Stat. Med. 24, 729).

    Args:
        first: hits and members of the first sample; numbers, or arrays that broadcast.
        second: hits and members of the second.
        shared: of the common members: hits in both, hits in the first, hits in the second, and their number.
    """
    (hits1, n1), (hits2, n2) = first, second
    n1, n2 = np.asarray(n1, np.float64) + 2, np.asarray(n2, np.float64) + 2
    p1, p2 = (np.asarray(hits1) + 1) / n1, (np.asarray(hits2) + 1) / n2
    both, of_first, of_second, n12 = (np.asarray(counts, np.float64) for counts in shared)
    n12 = n12 + 2
    covariance = (both + 0.5) / n12 - (of_first + 1) / n12 * (of_second + 1) / n12
    variance = p1 * (1 - p1) / n1 + p2 * (1 - p2) / n2 - 2 * covariance * n12 / (n1 * n2)
    return np.asarray(np.sqrt(np.maximum(variance, 0)))
