"""Result of a comparison of two catalogs; its field names are the keys of `comparison.json`."""

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
from galaxy_batch.compare.questions import QuestionChange
from galaxy_batch.stats import Interval

__all__ = ["CatalogSummary", "Comparison", "Flip", "Matching", "Rates", "plain"]


@dataclass(frozen=True)
class CatalogSummary:
    """Key numbers of a catalog."""

    uri: str
    release: str
    model_id: str
    rows: int
    with_class: int


@dataclass(frozen=True)
class Matching:
    """How many objects are in both catalogs, and in one only."""

    by: str
    radius_arcsec: float | None
    """None if matched by id."""
    matched: int
    only_old: int
    only_new: int
    ambiguous: int
    """Old objects for which there was a choice, see `skymatch.SkyMatch`; 0 by id."""
    nowhere_old: int
    """Rows of `only_old` without a position; 0 by id."""
    nowhere_new: int
    median_separation_arcsec: float | None


@dataclass(frozen=True)
class Rates:
    """Rows with a property, and their share; nan if there are no rows."""

    name: str
    old: int
    new: int
    old_rate: float
    new_rate: float
    old_interval: Interval
    """95%, Wilson."""
    new_interval: Interval

    @property
    def increase(self) -> float:
        """New − old rate."""
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
    """All numbers of a comparison."""

    old: CatalogSummary
    new: CatalogSummary
    matching: Matching
    classes: tuple[str, ...]
    """Of both catalogs, those of the old one first."""
    compared: int
    """Matched objects with a class in both catalogs."""
    flipped: int
    """Those whose class changed."""
    flip_rate: float
    """nan if `compared` is 0."""
    flip_interval: Interval
    """95%, Wilson."""
    transitions: npt.NDArray[np.int64]
    """``(classes + 1, classes + 1)``: matched objects by old (rows) and new class; the last is without a class."""
    flips: list[Flip]
    mix: Mix
    """Of all rows, as one group."""
    bin_mixes: list[Mix]
    sky: Mix
    shifts: dict[str, Shift]
    """Of `confidence`, and of `p_<class>` for classes of both catalogs."""
    failed: Rates
    """Rows without a class."""
    flagged: Rates
    """Rows with any review flag."""
    flags: list[Rates]
    """Rows with each flag."""
    gates: list[Gate]
    questions: list[QuestionChange]
    """Of the decision tree, those that both catalogs have."""

    @property
    def crossed(self) -> list[Gate]:
        """The crossed gates."""
        return [gate for gate in self.gates if gate.crossed]


def plain(value: Any) -> Any:
    """A value as JSON: dataclasses and arrays become dicts and lists, numbers that are not finite None."""
    if dataclasses.is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
