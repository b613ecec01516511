"""Rows of a whole catalog, counted by predicted class, confidence and flag, from one pass over its files.

One row group of the counted columns is in memory at a time; what is kept are kilobytes of counts, and the rows of the
objects that were asked for.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.audit.estimate import FINE_BINS
from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.catalog.read_files import row_groups
from galaxy_batch.rows import ReviewFlag
from galaxy_batch.runtime.progress import with_progress

__all__ = ["FLAG_GROUPS", "Population", "class_numbers", "count_population", "fine_bins", "in_flag_group"]

_NO_FLAG = "no flag"
FLAG_GROUPS = (
    *(str(flag.name) for flag in ReviewFlag if flag not in (ReviewFlag.UNREADABLE, ReviewFlag.AUDIT)),
    _NO_FLAG,
)
"""Groups of rows with a class by their review flags: one for each flag that says something about the row, and the rows
with none of these. A row may be in several."""
_COLUMNS = ("object_id", "predicted_class", "confidence", "review_flags")

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass
class Population:
    """Rows of a catalog that have a class, by class and bin of confidence."""

    classes: tuple[str, ...]
    rows: int = 0
    """All rows, also those without a class."""
    flags: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FLAG_GROUPS, 0))
    """Rows with a class, by group of `FLAG_GROUPS`."""
    flag_confidence: dict[str, float] = field(default_factory=lambda: dict.fromkeys(FLAG_GROUPS, 0.0))
    """Sum of their confidences."""

    def __post_init__(self) -> None:
        shape = len(self.classes), FINE_BINS
        self.counts: Ints = np.zeros(shape, np.int64)
        """``(classes, FINE_BINS)``."""
        self.confidence: Floats = np.zeros(shape)
        """Sums of their confidences."""

    @property
    def classified(self) -> int:
        """Rows with a class."""
        return int(self.counts.sum())

    def add(self, rows: pa.Table) -> None:
        """Count rows. Reads `predicted_class`, `confidence`, `review_flags`."""
        self.rows += len(rows)
        rows = rows.filter(rows["predicted_class"].is_valid())
        label, place = class_numbers(rows, self.classes), fine_bins(rows)
        confidence = rows["confidence"].to_numpy().astype(np.float64)
        group, size = label * FINE_BINS + place, self.counts.size
        self.counts += np.bincount(group, minlength=size).reshape(self.counts.shape)
        self.confidence += np.bincount(group, confidence, size).reshape(self.counts.shape)
        flags = rows["review_flags"].to_numpy()
        for name in FLAG_GROUPS:
            members = in_flag_group(flags, name)
            self.flags[name] += int(members.sum())
            self.flag_confidence[name] += float(confidence[members].sum())


def in_flag_group(flags: npt.NDArray[np.int32], name: str) -> npt.NDArray[np.bool_]:
    """Which rows belong to a group of `FLAG_GROUPS`, by their `review_flags`, ``(N,)``."""
    if name == _NO_FLAG:
        return np.asarray((flags & ~int(ReviewFlag.AUDIT)) == 0, np.bool_)
    return np.asarray((flags & int(ReviewFlag[name])) != 0, np.bool_)


def class_numbers(rows: pa.Table, classes: tuple[str, ...], column: str = "predicted_class") -> Ints:
    """The number of each row's class, ``(N,)``; -1 for any other text and null."""
    places = pc.index_in(rows[column].cast(pa.string()), value_set=pa.array(classes, pa.string()))
    return np.asarray(pc.fill_null(places, -1).to_numpy(), np.int64)


def fine_bins(rows: pa.Table) -> Ints:
    """The bin of each row's confidence, ``(N,)``."""
    confidence = rows["confidence"].to_numpy().astype(np.float64)
    return np.asarray(np.clip(confidence * FINE_BINS, 0, FINE_BINS - 1), np.int64)


def count_population(catalog_uri: str, manifest: CatalogManifest, ids: pa.Array) -> tuple[Population, pa.Table]:
    """Count a published catalog, and find the rows of some objects.

    Args:
        catalog_uri: its folder.
        manifest: of the catalog.
        ids: objects to find, in the catalog's type.

    Returns:
        The counts, and `object_id`, `predicted_class`, `confidence` and `review_flags` of the objects that are there.
    """
    population, wanted = Population(manifest.classes), []
    for file in with_progress(manifest.files, "counting", manifest.rows, lambda file: file.rows):
        for _, rows in row_groups(catalog_uri, file, _COLUMNS):
            population.add(rows)
            wanted.append(rows.filter(pc.is_in(rows["object_id"], value_set=ids)).replace_schema_metadata(None))
    return population, pa.concat_tables(wanted)
