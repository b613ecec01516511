"""Gates: how much two catalogs may differ before a person has to look."""

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
    """The largest value of each number that passes; `inf` switches a gate off."""

    max_flip_rate: _Limit = 0.05
    """Of the objects with a class in both catalogs, the share that has another one."""
    max_psi: _Limit = 0.1
    """Population stability index of the confidence, and of each class's probability."""
    max_ks: _Limit = 0.1
    """Kolmogorov–Smirnov statistic of the same."""
    max_failed_rate_increase: _Limit = 0.01
    """Share of the rows without a class, new less old."""
    max_flagged_rate_increase: _Limit = 0.02
    """Share of the rows with a review flag, new less old."""
    max_class_share_change: _Limit = 0.02
    """Share of a class among all rows with one, new less old, either way."""
    max_bin_share_change: _Limit = 0.1
    """The same in a bin of a column or a cell of the sky, where it exceeds three standard errors."""
    max_only_old_fraction: _Limit = 0.01
    """Of the old objects, the share that the new catalog has not."""
    max_only_new_fraction: _Limit = math.inf
    """Of the new objects, the share that the old catalog has not. Off: a release usually grows."""
    max_ambiguous_fraction: _Limit = 0.01
    """Of the old objects, the share with a choice between several new ones, or with rivals; only by position."""


@dataclass(frozen=True)
class Measured:
    """What a gate looks at."""

    value: float | None
    """nan: not to be known from these catalogs. None: nothing was asked for that this gate looks at."""
    where: str = ""
    """Which column, class, bin or cell it is the value of."""


@dataclass(frozen=True)
class Gate:
    """One gate and what came of it."""

    name: str
    limit: float
    value: float | None
    where: str
    crossed: bool

    @property
    def off(self) -> bool:
        """Whether it is switched off."""
        return math.isinf(self.limit)

    def __str__(self) -> str:
        of = f" ({self.where})" if self.where else ""
        if self.off or self.value is None:
            return f"{self.name}: {'off' if self.off else 'nothing to look at'}"
        if math.isnan(self.value):
            return f"{self.name}: cannot be known{of}; set it to inf if that is meant"
        return f"{self.name}: {self.value:.4g}{of}, the limit is {self.limit:g}"


def judge(gates: Gates, measured: Mapping[str, Measured]) -> list[Gate]:
    """Hold each number against its gate.

    What cannot be known crosses its gate: a comparison that compares nothing must not pass for one that found nothing.

    Args:
        gates: the limits.
        measured: a number for each gate, by its name.
    """
    judged = []
    for gate in dataclasses.fields(gates):
        limit, found = getattr(gates, gate.name), measured[gate.name]
        crossed = not math.isinf(limit) and found.value is not None and not found.value <= limit
        judged.append(Gate(gate.name, limit, found.value, found.where, crossed))
    return judged
