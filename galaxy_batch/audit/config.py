"""Settings of an audit."""

from dataclasses import dataclass
from typing import Annotated

from galaxy_batch.settings import Range, Uri

__all__ = ["AuditConfig"]


@dataclass(frozen=True)
class AuditConfig:
    """Settings of an audit: a catalog, the verdicts of people on some of its rows, and what must hold."""

    catalog_uri: Annotated[str, Uri]
    """Folder of a published catalog, which contains `manifest.json`."""
    verdicts_uri: Annotated[str, Uri] | None = None
    """Folder of imported verdicts, which contains `reviewed.parquet`. When not given, `review/verdicts/verdicts` beside
    the catalog."""
    queue: str | None = None
    """Name of the review queue whose galaxies count. Needed only if the verdicts are of several queues: the inclusion
    probabilities of one queue do not apply to another."""
    min_probability: Annotated[float, Range(0, 1)] = 0.5
    """Merged verdicts of several people count as undecided unless their probability is above this. At 0.5, a tie of two
    people is undecided."""
    tolerance: Annotated[float, Range(0.001, 0.5)] = 0.05
    """The stated confidence holds only if the interval of the accuracy contains it and reaches at most this far to
    either side of the accuracy. Otherwise the verdicts are too few to say."""
    min_accuracy: Annotated[float, Range(0, 1)] | None = None
    """Gate: the exit code is 3 if the 95% interval of the accuracy is below this, or cannot be estimated. When not
    given, there is no gate."""
    report_uri: Annotated[str, Uri] | None = None
    """Folder that gets `index.html` and `audit.json`. When not given, `audit/<name of the verdicts' folder>` beside the
    catalog."""
