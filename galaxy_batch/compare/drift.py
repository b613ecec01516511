"""Distances between two distributions, as effect sizes: they do not grow with the number of rows."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import ks_2samp, kstwobign

__all__ = ["HISTOGRAM_BINS", "Shift", "find_shift", "ks_statistic", "population_stability_index", "quantile_edges"]

Values = npt.NDArray[np.floating]
Counts = npt.NDArray[np.int64]

HISTOGRAM_BINS = 40
"""Bins of a histogram from 0 to 1."""
_PSI_BINS = 10
_EVEN = np.linspace(0, 1, HISTOGRAM_BINS + 1)
_DECIMALS = 5  # of probabilities: rounding errors of the network, at ties of many rows, are no shift


@dataclass(frozen=True)
class Shift:
    """A confidence or a probability, old and new; nan if a catalog has no values."""

    old_rows: int
    """Rows with a value."""
    new_rows: int
    old_mean: float
    new_mean: float
    psi: float
    """`population_stability_index` of all rows, in deciles of the old ones."""
    psi_by_chance: float
    """Mean for two samples of one distribution: (bins − 1) (1/N + 1/M)."""
    ks: float
    """`ks_statistic` of all rows."""
    ks_by_chance: float
    """95th percentile for two samples of one distribution: 1.36 √(1/N + 1/M)."""
    mean_change: float
    """Mean of |new − old| over the matched objects: sensitive to changes that cancel in the distributions."""
    old_histogram: Counts
    """``(40,)``: rows in equal bins from 0 to 1."""
    new_histogram: Counts
    """``(40,)``."""
    joint_histogram: Counts
    """``(40, 40)``: matched objects by old (first) and new value."""


def find_shift(old: Values, new: Values, pairs: tuple[Values, Values]) -> Shift:
    """Compare the distributions of values between 0 and 1.

    Args:
        old: ``(N,)``; nan is ignored.
        new: ``(M,)``; nan is ignored.
        pairs: old and new values of the matched objects, ``(P,)`` each.
    """
    old, new = old[~np.isnan(old)], new[~np.isnan(new)]
    rounded = np.round(old, _DECIMALS), np.round(new, _DECIMALS)
    known = ~(np.isnan(pairs[0]) | np.isnan(pairs[1]))
    before, after = pairs[0][known], pairs[1][known]
    chance, edges = math.nan, np.array([-np.inf, np.inf])
    if len(old) and len(new):
        chance, edges = 1 / len(old) + 1 / len(new), quantile_edges(rounded[0], _PSI_BINS)
    return Shift(
        old_rows=len(old),
        new_rows=len(new),
        old_mean=float(old.mean(dtype=np.float64)) if len(old) else math.nan,
        new_mean=float(new.mean(dtype=np.float64)) if len(new) else math.nan,
        psi=population_stability_index(*(_counts(values, edges) for values in rounded)),
        psi_by_chance=(len(edges) - 2) * chance,
        ks=ks_statistic(*rounded),
        ks_by_chance=float(kstwobign.isf(0.05)) * math.sqrt(chance),
        mean_change=float(np.abs(after - before).mean(dtype=np.float64)) if len(before) else math.nan,
        old_histogram=np.histogram(old, _EVEN)[0],
        new_histogram=np.histogram(new, _EVEN)[0],
        joint_histogram=np.histogram2d(before, after, [_EVEN, _EVEN])[0].astype(np.int64),
    )


def population_stability_index(old: npt.ArrayLike, new: npt.ArrayLike) -> float:
    """Population stability index Σ (qᵢ − pᵢ) ln(qᵢ / pᵢ) of the shares p (old) and q (new) in the same bins.

    Jeffreys' (1946, Proc. R. Soc. A 186, 453) symmetric divergence, as Siddiqi (2006, Credit Risk Scorecards) uses it:
    values below 0.1 are considered small, above 0.25 large. Half a row is added to each bin, so that empty bins have a
    logarithm. nan if old or new has no rows.

    Args:
        old: rows in each bin, ``(bins,)``.
        new: rows in each bin, ``(bins,)``.
    """
    p, q = np.asarray(old, np.float64), np.asarray(new, np.float64)
    if not p.sum() or not q.sum():
        return math.nan
    p, q = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (p, q))
    return float(((q - p) * np.log(q / p)).sum())


def ks_statistic(old: Values, new: Values) -> float:
    """Kolmogorov–Smirnov statistic, from 0 to 1, of two samples without nan; nan if one is empty."""
    return float(ks_2samp(old, new, method="asymp").statistic) if len(old) and len(new) else math.nan


def quantile_edges(values: Values, bins: int) -> npt.NDArray[np.float64]:
    """Edges of bins with equal numbers of values (at least one, no nan), ``(bins + 1,)``, the outer ones infinite.

    A bin includes its lower edge and not its upper. Repeated values make fewer bins.
    """
    inner = np.unique(np.quantile(values, np.arange(1, bins) / bins).astype(np.float64))
    inner = inner[inner > values.min()]  # the bin below would be empty
    return np.concatenate([[-np.inf], inner, [np.inf]])


def _counts(values: Values, edges: npt.NDArray[np.float64]) -> Counts:
    return np.bincount(np.searchsorted(edges[1:-1], values, "right"), minlength=len(edges) - 1)
