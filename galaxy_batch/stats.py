"""How far shares, and differences of shares, can be trusted: intervals and standard errors from counts."""

import math

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "difference_error", "wilson_interval"]

Interval = tuple[float, float]

_Z_95 = 1.959964  # of the normal distribution, 2.5 % in each tail


def wilson_interval(right: int, total: int) -> Interval:
    """95 % interval of a share of which `right` out of `total` were seen (Wilson 1927, JASA 22, 209).

    Unlike the usual ± it stays inside 0…1 and holds for small numbers; of nothing, nothing is known: (0, 1).
    """
    if not total:
        return 0.0, 1.0
    share, spread = right / total, _Z_95**2 / total
    centre = share + spread / 2
    half = _Z_95 * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return max(0.0, (centre - half) / (1 + spread)), min(1.0, (centre + half) / (1 + spread))


def difference_error(
    first: tuple[npt.ArrayLike, npt.ArrayLike],
    second: tuple[npt.ArrayLike, npt.ArrayLike],
    shared: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike, npt.ArrayLike],
) -> npt.NDArray[np.float64]:
    """Standard error of the difference of two shares whose samples have some members in common, or all, or none.

    The variance is p1 q1 / n1 + p2 q2 / n2 − 2 c n12 / (n1 n2), with the covariance c of the members in common: that of
    two samples which overlap in part (Derrick et al. 2015, J. Appl. Quant. Methods 10(3), 1). With none in common it is
    the textbook's for independent samples, with all in common McNemar's for pairs. So that few members, or shares of 0
    and 1, do not look certain, half a member is added to each of the four cells of a pair, which is one to the hits and
    one to the misses of each sample (Agresti & Caffo 2000, Am. Stat. 54, 280; Agresti & Min 2005, Stat. Med. 24, 729).

    Args:
        first: hits and members of the first sample; numbers, or arrays that fit each other.
        second: hits and members of the second.
        shared: hits in both, hits of the first, hits of the second, and members, among the members in common.
    """
    (hits1, n1), (hits2, n2) = first, second
    n1, n2 = np.asarray(n1, np.float64) + 2, np.asarray(n2, np.float64) + 2
    p1, p2 = (np.asarray(hits1) + 1) / n1, (np.asarray(hits2) + 1) / n2
    both, of_first, of_second, n12 = (np.asarray(counts, np.float64) for counts in shared)
    n12 = n12 + 2
    covariance = (both + 0.5) / n12 - (of_first + 1) / n12 * (of_second + 1) / n12
    variance = p1 * (1 - p1) / n1 + p2 * (1 - p2) / n2 - 2 * covariance * n12 / (n1 * n2)
    return np.asarray(np.sqrt(np.maximum(variance, 0)))
