"""What a comparison of two catalogs found: numbers, for the page and for `comparison.json`."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from galaxy_batch.compare.class_mix import Mix
from galaxy_batch.compare.drift import Shift
from galaxy_batch.compare.gates import Gate
from galaxy_batch.stats import Interval

__all__ = ["Comparison", "Flip", "Matching", "Rates", "SideSummary", "plain"]


@dataclass(frozen=True)
class SideSummary:
    """A catalog in a few numbers."""

    uri: str
    release: str
    model_id: str
    rows: int
    with_class: int


@dataclass(frozen=True)
class Matching:
    """Which objects are in both catalogs."""

    by: str
    radius_arcsec: float | None
    """None where ids were matched."""
    matched: int
    only_old: int
    only_new: int
    ambiguous: int
    """Old objects for which there was a choice, see `skymatch.SkyMatch`; 0 by id."""
    nowhere_old: int
    """Of those in `only_old`: without a position to match by."""
    nowhere_new: int
    median_separation_arcsec: float | None


@dataclass(frozen=True)
class Rates:
    """How many rows have something; a share of nothing is nan."""

    name: str
    old: int
    new: int
    old_rate: float
    new_rate: float
    old_interval: Interval
    """95 %, Wilson."""
    new_interval: Interval

    @property
    def increase(self) -> float:
        """New less old rate."""
        return self.new_rate - self.old_rate


@dataclass(frozen=True)
class Flip:
    """An object whose class changed."""

    old_id: str
    new_id: str
    ra: float | None
    """Degrees, of the old row."""
    dec: float | None
    old_class: str
    old_confidence: float
    new_class: str
    new_confidence: float


@dataclass(frozen=True)
class Comparison:
    """Everything that was found."""

    old: SideSummary
    new: SideSummary
    matching: Matching
    classes: tuple[str, ...]
    """Of both catalogs, the old one's first."""
    compared: int
    """Objects with a class in both catalogs."""
    flipped: int
    """Of these, with another class."""
    flip_rate: float
    """nan where nothing is compared."""
    flip_interval: Interval
    """95 %, Wilson."""
    transitions: npt.NDArray[np.int64]
    """``(classes + 1, classes + 1)``: matched objects by old (rows) and new class; the last is no class."""
    flips: list[Flip]
    mix: Mix
    """All rows, one group."""
    bin_mixes: list[Mix]
    sky: Mix
    shifts: dict[str, Shift]
    """Of `confidence`, and of `p_<class>` for classes that both have."""
    failed: Rates
    """Rows without a class."""
    flagged: Rates
    """Rows with any review flag."""
    flags: list[Rates]
    """Rows with each flag."""
    gates: list[Gate]

    @property
    def crossed(self) -> list[Gate]:
        """The gates that were crossed."""
        return [gate for gate in self.gates if gate.crossed]


def plain(found: Any) -> Any:
    """The same as JSON can hold it: dataclasses and arrays as dicts and lists, None for what is not finite."""
    if dataclasses.is_dataclass(found):
        return {item.name: plain(getattr(found, item.name)) for item in dataclasses.fields(found)}
    if isinstance(found, Mapping):
        return {key: plain(value) for key, value in found.items()}
    if isinstance(found, np.ndarray):
        return plain(found.tolist())
    if isinstance(found, list | tuple):
        return [plain(value) for value in found]
    return None if isinstance(found, float) and not math.isfinite(found) else found
