"""Settings of a review queue."""

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.links import SKY_LINKS, check_links
from galaxy_batch.settings import Range, Uri

__all__ = ["FOLDER_NAME", "ReviewQueueConfig"]

FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names of queues and of verdict tables, which become folders."""

_VERDICTS = "verdicts"
_DRAWS = ("flags", "where", "least_confident", "uniform", "per_class", "stratified", "optimal", "audit")
_OUTPUTS = ("attention", "serve", "zooniverse", "upload", "label_studio")  # also of a queue that is there
_NOT_OF_THE_DRAW = (
    "catalog_uri", "name", "links", "manifest", "zooniverse", "upload", "label_studio", "max_rows", "attention",
    "checkpoint_uri", "serve", "port",
)  # fmt: skip
_Rows = Annotated[int, Range(1, 1_000_000)]


@dataclass(frozen=True)
class ReviewQueueConfig:
    """Settings of a review queue: which galaxies of a catalog are drawn, and what is written for whom.

    The draws are independent of each other; a galaxy is in the queue if one of them draws it. Galaxies without an image
    are never drawn.
    """

    catalog_uri: Annotated[str, Uri]
    """Folder of a published catalog, which contains `manifest.json`."""
    name: str = "queue"
    """Name of the queue. Its folder is `review/<name>` beside the catalog."""
    flags: tuple[str, ...] = ()
    """Draw galaxies with one of these review flags, e.g. `["LOW_CONFIDENCE", "UNFAMILIAR"]`."""
    flags_rows: _Rows | None = None
    """Of the galaxies with `flags`, draw this many at random. When not given, all of them."""
    where: str | None = None
    """Draw galaxies for which this SQL condition is true, e.g. `p_smooth > 0.4 and p_smooth < 0.6`."""
    where_rows: _Rows | None = None
    """Of the galaxies that meet `where`, draw this many at random. When not given, all of them."""
    least_confident: _Rows | None = None
    """Draw this many galaxies with the lowest confidence."""
    uniform: _Rows | None = None
    """Draw this many galaxies at random, all equally probable."""
    per_class: _Rows | None = None
    """Draw this many galaxies of each predicted class at random."""
    stratified: _Rows | None = None
    """Draw this many galaxies of each predicted class and range of confidence at random."""
    optimal: _Rows | None = None
    """Draw about this many galaxies at random, divided among predicted classes and ranges of confidence so that the
    accuracy of the catalog is estimated most precisely: more where the model is less sure, and in larger groups."""
    confidence_edges: tuple[Annotated[float, Range(0, 1)], ...] = (0.6, 0.7, 0.8, 0.9)
    """Limits between the ranges of confidence of `stratified` and `optimal`, ascending."""
    audit: bool = False
    """Draw the galaxies with the flag AUDIT, the random sample of the catalog's own run."""
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Seed of all that is random: the same seed draws the same galaxies, wherever they are in the catalog."""
    order: Literal["shuffled", "reason"] = "shuffled"
    """Order to look at. `shuffled` does not reveal why a galaxy was drawn, and any first part of the queue is a random
    part of it; `reason` has the galaxies with the same reasons together."""
    max_rows: _Rows = 5000
    """Largest number of galaxies. If exceeded, nothing is written and the exit code is 2: a part of them would not have
    the recorded probabilities."""
    picture_px: Annotated[int, Range(64, 8192)] = 1024
    """Longest side of a picture in pixels; larger cutouts are scaled down."""
    attention: bool = False
    """Whether the page can show which parts of a cutout raise the score of the predicted class. Costs a forward and a
    backward pass of the network for each galaxy."""
    checkpoint_uri: Annotated[str, Uri] | None = None
    """The catalog's checkpoint, needed for `attention` if it has moved. When not given, as in the catalog."""
    serve: bool = False
    """Whether to serve the page on this machine (127.0.0.1) until Ctrl+C, and to write its verdicts into the queue's
    folder, which must be local: `verdicts-<reviewer>.csv`. Without it, the page opens from disk and exports them."""
    port: Annotated[int, Range(0, 65535)] = 8642
    """Of the served page; 0 for any that is free."""
    zooniverse: bool = False
    """Whether to write a Zooniverse subject set: `zooniverse/manifest.csv` and its pictures."""
    upload: Annotated[int, Range(1)] | None = None
    """Number of a Zooniverse project to upload the subject set to. Needs the extra `zooniverse`, and the environment
    variables PANOPTES_USERNAME and PANOPTES_PASSWORD."""
    label_studio: bool = False
    """Whether to write Label Studio tasks: `label_studio/tasks.json` and `label_studio/config.xml`."""
    manifest: ManifestConfig | None = None
    """Location of the cutouts. When not given, as in the catalog; needed if they have moved or have signed URIs."""
    links: dict[str, str] = field(default_factory=SKY_LINKS.copy)
    """Links of each galaxy: addresses by name, with `{ra}`, `{dec}` (degrees) and `{object_id}` in braces."""

    def __post_init__(self) -> None:
        if not FOLDER_NAME.fullmatch(self.name):
            raise InputError("name", self.name, "use letters, digits, and . _ - after the first one")
        if self.name.lower() == _VERDICTS:  # some file systems do not tell upper from lower case
            raise InputError("name", self.name, "is the folder of the verdicts; choose another name")
        if not (self.draws or any(getattr(self, name) for name in _OUTPUTS)):
            raise InputError("uniform", None, f"nothing is drawn: give at least one of {', '.join(_DRAWS)}")
        for name in ("flags", "where"):
            if getattr(self, f"{name}_rows") is not None and not getattr(self, name):
                raise InputError(f"{name}_rows", getattr(self, f"{name}_rows"), f"needs {name}")
        if list(self.confidence_edges) != sorted(set(self.confidence_edges)):
            raise InputError("confidence_edges", list(self.confidence_edges), "must ascend")
        check_links("links", self.links)

    @property
    def draws(self) -> bool:
        """Whether anything is drawn; if not, the queue of this name must be there."""
        return any(getattr(self, name) for name in _DRAWS)

    @property
    def drawn_by(self) -> dict[str, Any]:
        """The settings that decide which galaxies are in the queue, in which order, and their pictures."""
        settings = dataclasses.asdict(self)
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in settings.items()
            if name not in _NOT_OF_THE_DRAW
        }
