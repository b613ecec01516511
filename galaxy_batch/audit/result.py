"""The numbers of an audit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from galaxy_batch.audit.estimate import Estimate
from galaxy_batch.stats import Interval, wilson_interval

__all__ = ["AuditResult", "ClassAccuracy", "GroupAccuracy", "PromisedAccuracy"]


@dataclass(frozen=True)
class GroupAccuracy:
    """Accuracy of a group of rows: a range of confidence, or a review flag."""

    name: str
    rows: int
    """Of the catalog."""
    confidence: float
    """Mean stated confidence of these rows."""
    accuracy: Estimate


@dataclass(frozen=True)
class ClassAccuracy:
    """How good a class of the catalog is."""

    name: str
    rows: int
    """Predicted rows of the catalog."""
    confidence: float
    """Mean stated confidence of these rows."""
    purity: Estimate
    """Of the galaxies with this predicted class, the share that people give this class: precision."""
    completeness: Estimate
    """Of the galaxies that people give this class, the share with this predicted class: recall."""
    share: Estimate
    """Of all rows with a class, the share that people give this class."""


@dataclass(frozen=True)
class PromisedAccuracy:
    """Accuracy on the checkpoint's own test galaxies."""

    accuracy: float
    galaxies: int | None
    """Test galaxies; None where the checkpoint does not say."""
    interval: Interval | None
    """95%, Wilson; None without their number."""

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any]) -> Self | None:
        """From the metadata of a checkpoint; None where it does not say."""
        accuracy = checkpoint.get("accuracy")
        if not isinstance(accuracy, int | float):
            return None
        galaxies = ((checkpoint.get("training") or {}).get("galaxies_per_split") or {}).get("test")
        interval = wilson_interval(round(accuracy * galaxies), galaxies) if galaxies else None
        return cls(float(accuracy), galaxies, interval)


@dataclass(frozen=True)
class AuditResult:
    """All numbers of an audit. Shares that cannot be estimated are nan."""

    catalog_uri: str
    release: str
    model_id: str
    queue: str | None
    rows: int
    """Of the catalog."""
    classified: int
    """With a class."""
    queued: int | None
    """Galaxies of the queue; None where its folder is not there."""
    looked_at: int
    """Galaxies with a verdict."""
    verdicts: int
    """Of them, those that people give a class: what the accuracy rests on."""
    artifacts: int
    undecided: int
    """`unsure`, or merged verdicts whose probability is not above `min_probability`."""
    min_probability: float
    left_out: Mapping[str, int]
    """Verdicts that do not count, by reason."""
    not_covered: str
    """Why nothing can be said about the catalog as a whole; empty where it can."""
    accuracy: Estimate
    expected_accuracy: float
    """Mean stated confidence."""
    holds: bool | None
    """Whether the stated confidence holds; None: too few verdicts to say."""
    statement: str
    """The same in words."""
    accuracy_if_undecided_wrong: float
    calibration_error: Estimate
    promised: PromisedAccuracy | None
    """None where the checkpoint does not say."""
    artifact_share: Estimate
    undecided_share: Estimate
    classes: tuple[ClassAccuracy, ...]
    bins: tuple[GroupAccuracy, ...]
    flags: tuple[GroupAccuracy, ...]
