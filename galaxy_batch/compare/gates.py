"""Gates: how much two catalogs may differ before the comparison fails."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from galaxy_batch.settings import Range

__all__ = ["Gate", "Gates", "Measured", "judge"]

_Limit = Annotated[float, Range(0)]


@dataclass(frozen=True)
class Gates:
    """The largest passing value of each number; `inf` disables a gate."""

    max_flip_rate: _Limit = 0.05
    """Of the matched objects with a class in both catalogs, the share whose class changed."""
    max_psi: _Limit = 0.1
    """Population stability index of the confidence, and of each class's probability."""
    max_ks: _Limit = 0.1
    """Kolmogorov–Smirnov statistic of the same columns."""
    max_failed_rate_increase: _Limit = 0.01
    """Share of the rows without a class, new − old."""
    max_flagged_rate_increase: _Limit = 0.02
    """Share of the rows with a review flag, new − old."""
    max_class_share_change: _Limit = 0.02
    """Absolute change of the share of any class among the rows with a class."""
    max_bin_share_change: _Limit = 0.1
    """The same in a bin of a column or a sky cell, if it exceeds three standard errors."""
    max_only_old_fraction: _Limit = 0.01
    """Of the old objects, the share that is not in the new catalog."""
    max_only_new_fraction: _Limit = math.inf
    """Of the new objects, the share that is not in the old catalog. Disabled: releases usually grow."""
    max_ambiguous_fraction: _Limit = 0.01
    """Of the old objects, the share with several candidates or rivals within the radius; only by position."""


@dataclass(frozen=True)
class Measured:
    """The number that a gate limits."""

    value: float | None
    """nan: cannot be computed from these catalogs. None: not measured by this comparison."""
    where: str = ""
    """The column, class, bin or cell of the value."""


@dataclass(frozen=True)
class Gate:
    """A gate and its outcome."""

    name: str
    limit: float
    value: float | None
    where: str
    crossed: bool

    @property
    def off(self) -> bool:
        """Whether the gate is disabled."""
        return math.isinf(self.limit)

    def __str__(self) -> str:
        of = f" ({self.where})" if self.where else ""
        if self.off or self.value is None:
            return f"{self.name}: {'off' if self.off else 'not measured'}"
        if math.isnan(self.value):
            return f"{self.name}: cannot be computed{of}; set the limit to inf if this is expected"
        return f"{self.name}: {self.value:.4g}{of}, the limit is {self.limit:g}"


def judge(gates: Gates, measured: Mapping[str, Measured]) -> list[Gate]:
    """Compare each number with its gate.

    A number that cannot be computed crosses its gate, so a comparison of catalogs with nothing in common fails.

    Args:
        gates: the limits.
        measured: a number for each gate, by its name.
    """
    judged = []
    for gate in dataclasses.fields(gates):
        limit, number = getattr(gates, gate.name), measured[gate.name]
        crossed = not math.isinf(limit) and number.value is not None and not number.value <= limit
        judged.append(Gate(gate.name, limit, number.value, number.where, crossed))
    return judged
