"""Shares of all rows of a catalog, and their intervals, from a sample with known inclusion probabilities.

Each sampled row stands for as many rows as the inverse of its inclusion probability. These weights are then scaled so
that each cell, a predicted class in a range of confidence, counts as many rows as the catalog has there
(post-stratification: Holt & Smith 1979, J. R. Stat. Soc. A 142, 33). Variances are those of the linearized ratio, with
residuals within the cells (Särndal, Swensson & Wretman 1992, Model Assisted Survey Sampling, sections 5.7 and 7.6). The
interval is Wilson's with an effective sample size and quantiles of Student's t (Korn & Graubard 1998, Survey
Methodology 24, 193; Franco et al. 2019, J. Surv. Stat. Methodol. 7, 334), of the rows drawn at random only: rows that
were certain to be drawn have no sampling error.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import chi2
from scipy.stats import t as student

from galaxy_batch.stats import Interval

__all__ = [
    "FINE_BINS",
    "NO_ESTIMATE",
    "Estimate",
    "Sample",
    "calibration_error",
    "estimate_share",
    "represents",
    "weighted_sample",
]

FINE_BINS = 200
"""Equal bins of confidence from 0 to 1 in which the rows of a catalog are counted."""
_CELL_ROWS = 10
"""Sampled rows that a cell needs; smaller ones are merged with their neighbour in confidence."""
_PSEUDO_ROWS = 1.0
"""Rows of the rarer outcome that are added to the variance, so that a share of 0 or 1 has an error."""

_FEW_HITS = 3.5
_SIMULATED = 1000

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Sample:
    """Sampled rows, with the weights that make them stand for all rows; arrays are ``(n,)``."""

    probability: Floats
    """Inclusion probability, in (0, 1]."""
    weight: Floats
    """Rows of the catalog that each one stands for."""
    cell: Ints
    """Its cell; that of rows that were certain to be drawn is -1."""

    @property
    def certain(self) -> Mask:
        """Rows that were certain to be drawn."""
        return self.cell < 0


@dataclass(frozen=True)
class Estimate:
    """A share of the rows of a group, with its 95% interval."""

    value: float
    """nan where it cannot be estimated."""
    low: float
    high: float
    rows: int = 0
    """Sampled rows that it rests on."""
    effective: float = math.nan
    """Rows of a simple random sample with the same error; nan where no row was drawn at random."""

    @property
    def known(self) -> bool:
        """Whether it could be estimated."""
        return not math.isnan(self.value)

    @property
    def interval(self) -> Interval:
        """Lower and upper end."""
        return self.low, self.high


NO_ESTIMATE = Estimate(math.nan, math.nan, math.nan)
"""Of a share that the sample says nothing about."""


def weighted_sample(probability: Floats, stratum: Ints, fine_bin: Ints, population: Ints | None) -> Sample:
    """Weights of the rows of a sample.

    Args:
        probability: inclusion probabilities, ``(n,)``.
        stratum: number of the predicted class, ``(n,)``.
        fine_bin: bin of confidence, ``(n,)``.
        population: rows of the catalog by class and bin, ``(classes, FINE_BINS)``. None where some of them cannot be in
            the sample: it then stands only for those that can.
    """
    weight, cell = 1 / probability, np.full(len(probability), -1)
    random = probability < 1
    if population is None:
        return Sample(probability, weight, np.where(random, 0, -1))
    remaining = population.copy()
    np.subtract.at(remaining, (stratum[~random], fine_bin[~random]), 1)
    remaining = np.maximum(remaining, 0)
    cells = 0
    for label in range(len(population)):
        members = np.flatnonzero(random & (stratum == label))
        if len(members):
            place = _merged_bins(np.bincount(fine_bin[members], minlength=population.shape[1]))
            cell[members] = cells + place[fine_bin[members]]
            rows = np.bincount(place, remaining[label])
            drawn = np.bincount(place[fine_bin[members]], weight[members], len(rows))
            weight[members] *= (rows / drawn)[place[fine_bin[members]]]
            cells += len(rows)
    return Sample(probability, weight, cell)


def _merged_bins(drawn: Ints) -> Ints:
    """The cell of each bin, from the highest bin down: consecutive bins with at least `_CELL_ROWS` drawn rows each."""
    place, number, rows = np.empty(len(drawn), np.int64), 0, 0
    left = int(drawn.sum())
    for position in range(len(drawn) - 1, -1, -1):
        place[position] = number
        rows, left = rows + int(drawn[position]), left - int(drawn[position])
        if rows >= _CELL_ROWS and left >= _CELL_ROWS:
            number, rows = number + 1, 0
    return place


def estimate_share(sample: Sample, member: Mask, hit: Mask) -> Estimate:
    """The share of hits among the members of a group, in the whole catalog.

    Args:
        sample: the sampled rows.
        member: which of them belong to the group, ``(n,)``.
        hit: which of them count, ``(n,)``; looked at for members only.
    """
    rows = int(member.sum())
    weight, random = sample.weight * member, ~sample.certain
    total = float(weight.sum())
    if not total:
        return NO_ESTIMATE
    value = float((weight * hit).sum() / total)
    of_random = float(weight[random].sum())
    if not of_random:
        return Estimate(value, value, value, rows)  # every row of the group was looked at
    random_value = float((weight * hit)[random].sum() / of_random)
    squares = weight[random] ** 2 * (1 - sample.probability[random])
    kish = of_random**2 / squares.sum()
    variance = _variance(sample, member * (hit - value), random) / of_random**2
    added = _PSEUDO_ROWS / kish
    effective = (random_value * (1 - random_value) + added) / (variance + added / kish)
    quantile = float(student.ppf(0.975, max(int((member & random).sum()) - 1, 1)))
    low, high = _modified_wilson(random_value, effective, quantile)
    constant, scale = float((weight * hit)[~random].sum() / total), of_random / total
    return Estimate(value, constant + scale * low, constant + scale * high, rows, effective)


def represents(probability: Floats, rows: int) -> bool:
    """Whether sampled rows may stand for this many rows of a catalog.

    The inverse inclusion probabilities of the rows that could be drawn add up to their number (Horvitz & Thompson 1952,
    JASA 47, 663), here within three standard errors and 1%. Where they add up to less, others could not be drawn.

    Args:
        probability: inclusion probabilities of the sampled rows, ``(n,)``.
        rows: of the catalog that they are drawn from.
    """
    error = math.sqrt(float(((1 - probability) / probability**2).sum()))
    return float((1 / probability).sum()) + 3 * error >= 0.99 * rows


def calibration_error(shares: Floats, differences: Floats, errors: Floats) -> Estimate:
    """Mean absolute difference of accuracy and stated confidence over bins of confidence, with its 95% interval.

    Sampling errors make the plain mean of absolute differences too large. So the differences are scaled until the plain
    mean would be the observed one in half of all samples; and the interval ends where it would be that large, or that
    small, in 2.5% of them (a test inverted by Monte Carlo, with normal errors: Davison & Hinkley 1997, Bootstrap
    Methods and their Application, section 5.4). It contains 0 where chance alone may have caused the differences.

    Args:
        shares: of the rows, by bin, ``(bins,)``.
        differences: of accuracy and confidence, ``(bins,)``.
        errors: their standard errors, ``(bins,)``.
    """
    if not len(shares):
        return NO_ESTIMATE
    weight = shares / shares.sum()
    plain = float(np.abs(differences) @ weight)
    noise = np.random.default_rng(0).standard_normal((_SIMULATED, len(shares))) * errors

    def scaled(share: float) -> float:
        """The mean at which this share of the samples has a smaller plain mean than the observed one."""

        def excess(factor: float) -> float:
            return float(np.quantile(np.abs(factor * differences + noise) @ weight, share)) - plain

        if excess(0.0) >= 0:
            return 0.0
        highest = 2.0
        while excess(highest) < 0:
            highest *= 2
        return plain * float(brentq(excess, 0.0, highest, xtol=1e-4))

    return Estimate(scaled(0.5), scaled(0.975), scaled(0.025))


def _variance(sample: Sample, values: Floats, random: Mask) -> float:
    """Variance of the weighted total of these values, whose sums by cell are known up to the residuals."""
    cell, weight, values = sample.cell[random], sample.weight[random], values[random]
    number = np.bincount(cell)
    mean = np.bincount(cell, weight * values) / np.maximum(np.bincount(cell, weight), 1e-300)
    residual = values - mean[cell]
    correction = number[cell] / np.maximum(number[cell] - 1, 1)
    return float((weight**2 * (1 - sample.probability[random]) * correction * residual**2).sum())


def _modified_wilson(share: float, number: float, quantile: float) -> Interval:
    """Wilson's interval for a share of an effective number of rows, with Poisson limits next to 0 and 1.

    Where only one or two of the rows differ from all others, Wilson's limit on the side of the others lies too far away
    from them (Brown, Cai & DasGupta 2001, Stat. Sci. 16, 101, section 4.1.1).
    """
    square = quantile**2 / number
    middle = (share + square / 2) / (1 + square)
    half = math.sqrt(max(share * (1 - share) * square + square**2 / 4, 0)) / (1 + square)
    low, high = middle - half, middle + half
    if number * share < _FEW_HITS:
        low = min(low, _poisson_limit(number * share) / number)
    if number * (1 - share) < _FEW_HITS:
        high = max(high, 1 - _poisson_limit(number * (1 - share)) / number)
    return max(low, 0.0), min(high, 1.0)


def _poisson_limit(hits: float) -> float:
    """The mean of a Poisson distribution that gives at least this many hits with a probability of 5%."""
    return float(chi2.ppf(0.05, 2 * hits)) / 2 if hits > 0 else 0.0
