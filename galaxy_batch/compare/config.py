"""Settings of a comparison."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from galaxy_batch.compare.gates import Gates
from galaxy_batch.links import SKY_LINKS, check_links
from galaxy_batch.settings import Range, Uri

__all__ = ["CompareConfig"]


@dataclass(frozen=True)
class CompareConfig:
    """Which catalogs are compared, how objects are matched, and how much may change."""

    old_uri: Annotated[str, Uri]
    """Folder of the catalog to compare with."""
    new_uri: Annotated[str, Uri]
    """Folder of the catalog to check."""
    output_uri: Annotated[str, Uri]
    """Folder that gets `index.html` and `comparison.json`."""
    match: Literal["object_id", "position"] = "object_id"
    """Match rows by equal ids, or as mutual nearest neighbours on the sky."""
    radius_arcsec: Annotated[float, Range(1e-6, 3600)] = 1.0
    """Largest separation of a match by position."""
    bin_columns: tuple[str, ...] = ()
    """Numeric columns of both catalogs (magnitude, size, redshift) in whose bins class shares are compared."""
    bins: Annotated[int, Range(2, 50)] = 8
    """Bins of such a column, with equal numbers of old rows."""
    min_cell_rows: Annotated[int, Range(10)] = 200
    """Rows that a sky cell needs in each catalog to be compared."""
    examples: Annotated[int, Range(0, 1000)] = 25
    """Objects with a changed class to show, sorted by the lower of the two confidences, highest first."""
    links: dict[str, str] = field(default_factory=SKY_LINKS.copy)
    """Links of each of them: addresses by name, with `{ra}`, `{dec}` (degrees) and `{object_id}` in braces."""
    gates: Gates = field(default_factory=Gates)
    """Limits of the changes."""

    def __post_init__(self) -> None:
        check_links("links", self.links)
