"""Settings of a search for similar galaxies."""

from dataclasses import dataclass, field
from typing import Annotated

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.links import SKY_LINKS, check_links
from galaxy_batch.settings import Range, Uri

__all__ = ["SimilarConfig"]


@dataclass(frozen=True)
class SimilarConfig:
    """Settings of a search for the rows of a catalog whose cutouts look like given ones."""

    catalog_uri: Annotated[str, Uri]
    """Folder of a published catalog with embeddings (`classify.embedding`)."""
    ids: tuple[str, ...] = ()
    """Objects of the catalog to find similar ones of."""
    image_uri: Annotated[str, Uri] | None = None
    """Cutout to find similar ones of, in place of `ids`: a file that the catalog's checkpoint classifies."""
    k: Annotated[int, Range(1, 10_000)] = 10
    """Number of similar galaxies of each one."""
    output_uri: Annotated[str, Uri] | None = None
    """Table of the similar galaxies: `.parquet`, `.csv`, `.fits` or `.vot` (VOTable). When not given, none is
    written."""
    report_uri: Annotated[str, Uri] | None = None
    """Folder of the page with their cutouts. When not given, `similar` beside the catalog."""
    checkpoint_uri: Annotated[str, Uri] | None = None
    """The catalog's checkpoint, needed for `image_uri` if it has moved. When not given, as in the catalog."""
    manifest: ManifestConfig | None = None
    """Location of the cutouts on the page. When not given, as in the catalog; needed if they have moved or have signed
    URIs."""
    links: dict[str, str] = field(default_factory=SKY_LINKS.copy)
    """Links of each galaxy: addresses by name, with `{ra}`, `{dec}` (degrees) and `{object_id}` in braces."""

    def __post_init__(self) -> None:
        if bool(self.ids) == (self.image_uri is not None):
            raise InputError("ids", list(self.ids), "give ids of the catalog, or image_uri, and not both")
        repeated = [object_id for number, object_id in enumerate(self.ids) if object_id in self.ids[:number]]
        if repeated:
            raise InputError("ids", repeated[0], "is given twice")
        check_links("links", self.links)
