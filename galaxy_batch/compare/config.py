"""Settings of a comparison."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from galaxy_batch.compare.gates import Gates
from galaxy_batch.errors import InputError
from galaxy_batch.links import SKY_LINKS, check_links
from galaxy_batch.settings import Range, Uri

__all__ = ["CompareConfig"]


@dataclass(frozen=True)
class CompareConfig:
    """Which catalogs are compared, how objects are matched, and how much may change."""

    output_uri: Annotated[str, Uri]
    """Folder that gets `index.html`, and `comparison.json` or, of a series, `series.json`."""
    old_uri: Annotated[str, Uri] = ""
    """Folder of the catalog to compare with."""
    new_uri: Annotated[str, Uri] = ""
    """Folder of the catalog to check."""
    series_uri: Annotated[str, Uri] | None = None
    """Folder of releases, in place of two catalogs: the `output_uri` of catalog jobs, with `release=…/model=…`. All
    catalogs in it are a series, each compared with the one before it."""
    order: Literal["published", "name"] = "published"
    """Order of the releases of a series: by when their first catalog was published, or by name (dr9 before dr10)."""
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
        if bool(self.old_uri) != bool(self.new_uri) or bool(self.old_uri) == (self.series_uri is not None):
            missing = "new_uri" if self.old_uri and not self.new_uri else "old_uri"
            remedy = "give old_uri and new_uri, two catalogs, or series_uri, a folder of releases"
            raise InputError(missing, getattr(self, missing), remedy)
        check_links("links", self.links)
