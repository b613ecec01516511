"""The numbers of a series of releases, and what changed from one to the next; `series.json` has these names as keys."""

from dataclasses import dataclass

from galaxy_batch.stats import Interval

__all__ = ["QUANTILES", "CatalogNumbers", "NotCompared", "Series", "Skipped", "Step"]

QUANTILES = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}
"""Quantiles of the confidence, by their keys in `series.json`."""


@dataclass(frozen=True)
class CatalogNumbers:
    """The numbers of one catalog; shares are nan without rows."""

    catalog_uri: str
    release: str
    model_id: str
    created: str
    """When it was published: UTC, ISO 8601; empty where the catalog does not say."""
    rows: int
    failed: int
    """Rows without a class."""
    failed_share: float
    failed_interval: Interval
    """95%, Wilson."""
    flagged: int
    flagged_share: float
    flagged_interval: Interval
    """95%, Wilson."""
    without_position: int
    status_counts: dict[str, int]
    class_counts: dict[str, int]
    class_shares: dict[str, float]
    """Of the rows with a class."""
    flag_counts: dict[str, int]
    confidence: dict[str, float]
    """`mean` and `QUANTILES` of the rows with a class; nan where there are none."""


@dataclass(frozen=True)
class Step:
    """What changed from a catalog to the one after it, in the measures of `Comparison`."""

    old: int
    """Number of the older catalog in the series, from 0."""
    new: int
    changed: str
    """`release`, `model` or `release and model`."""
    matched: int
    only_old: int
    only_new: int
    compared: int
    flipped: int
    flip_rate: float
    flip_interval: Interval
    psi: dict[str, float]
    """Population stability index of `confidence` and of the probability of each class that both have."""
    ks: dict[str, float]
    mean_change: dict[str, float]
    """Mean absolute change of the matched objects, as that of `Comparison`."""
    class_share_change: dict[str, float]
    failed_rate_increase: float
    flagged_rate_increase: float
    gates_crossed: tuple[str, ...]


@dataclass(frozen=True)
class NotCompared:
    """Two catalogs that cannot be compared as configured, for example by ids of two types."""

    old: int
    """Number of the older catalog in the series, from 0."""
    new: int
    reason: str


@dataclass(frozen=True)
class Skipped:
    """A folder of the series without a catalog that can be read."""

    uri: str
    release: str
    model_id: str
    reason: str
    created: str = ""
    """When it was published: UTC, ISO 8601; empty where that cannot be read."""


@dataclass(frozen=True)
class Series:
    """All numbers of a series; its field names are the keys of `series.json`."""

    series_uri: str
    order: str
    """`published` or `name`."""
    releases: tuple[str, ...]
    """In this order."""
    models: tuple[str, ...]
    """In the order of their first catalogs."""
    catalogs: tuple[CatalogNumbers, ...]
    """By release, then by time of publication."""
    steps: tuple[Step, ...]
    skipped: tuple[Skipped, ...]
    not_compared: tuple[NotCompared, ...] = ()

    @property
    def newest(self) -> int:
        """Number of the catalog that was published last."""
        return max(range(len(self.catalogs)), key=lambda number: (self.catalogs[number].created, number))

    @property
    def last_step(self) -> Step | None:
        """The step to the newest catalog; None where it is the first."""
        return next((step for step in self.steps if step.new == self.newest), None)

    @property
    def unjudged(self) -> str:
        """Why no gate judges what was published last; empty where the gates do, or where it is the first catalog."""
        for one in self.skipped:
            if one.created > self.catalogs[self.newest].created:
                return f"{one.release}, {one.model_id}: {one.reason}"
        return next((pair.reason for pair in self.not_compared if pair.new == self.newest), "")
