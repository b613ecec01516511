"""Settings of an import of verdicts."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from galaxy_batch.errors import InputError
from galaxy_batch.review_queue.config import FOLDER_NAME
from galaxy_batch.settings import Uri

__all__ = ["Format", "ImportConfig", "MergeMethod"]

Format = Literal["page", "zooniverse", "label_studio"]
MergeMethod = Literal["majority", "dawid_skene"]


@dataclass(frozen=True)
class ImportConfig:
    """Settings of an import of people's verdicts on the galaxies of a catalog."""

    catalog_uri: Annotated[str, Uri]
    """Folder of the published catalog that the verdicts are about."""
    files: tuple[Annotated[str, Uri], ...]
    """Files to import, all at once: CSV of the review page, Zooniverse classification exports, Label Studio's JSON or
    JSON-MIN."""
    name: str = "verdicts"
    """Name of the tables. Their folder is `review/verdicts/<name>` beside the catalog."""
    format: Literal["auto", "page", "zooniverse", "label_studio"] = "auto"
    """Format of the files; `auto` recognises it from the content of each."""
    answers: dict[str, str] = field(default_factory=dict)
    """Verdicts that answers stand for, where they are not the catalog's class names, `artifact` or `unsure`:
    `"Smooth and round" = "smooth"`. Upper and lower case, images and Markdown do not count."""
    task: str | None = None
    """Task of a Zooniverse workflow (`T0`) or control of a Label Studio project whose answer is the verdict. When not
    given: the first task that has an answer; the only control with choices, in JSON-MIN `verdict` or `choice`."""
    workflows: tuple[str, ...] = ()
    """Numbers of the Zooniverse workflows to import; records of others are rejected. When not given, all."""
    id_field: str = "object_id"
    """Field of a Zooniverse subject or Label Studio task with the id of the galaxy; a leading `#` or `!`, which hides a
    field from volunteers, does not count."""
    queue: str | None = None
    """Review queue that the verdicts belong to where the files do not say: verdicts get its inclusion probabilities."""
    names: bool = False
    """Keep the names of people as given. By default they are replaced by pseudonyms."""
    key_uri: Annotated[str, Uri] | None = None
    """File with the secret key of the pseudonyms; written where it does not exist. The same key gives the same person
    the same pseudonym. When not given, `review/verdicts/pseudonyms.key` beside the catalog."""
    merge: Literal["auto", "majority", "dawid_skene"] = "auto"
    """Decision about a galaxy with several verdicts: by majority, or by the model of Dawid and Skene (1979), which
    weighs people by how often they agree with others. `auto`: the latter where at least three people gave 50 verdicts
    each on average."""
    overwrite: bool = False
    """Replace tables of this name that were made from other files."""

    def __post_init__(self) -> None:
        if not self.files:
            raise InputError("files", [], "name at least one file")
        if not FOLDER_NAME.fullmatch(self.name):
            raise InputError("name", self.name, "use letters, digits, and . _ - after the first one")
        if self.queue is not None and not FOLDER_NAME.fullmatch(self.queue):
            raise InputError("queue", self.queue, "is not the name of a queue, which is that of its folder")
        for number, uri in enumerate(self.files):
            if uri in self.files[:number]:
                raise InputError(f"files[{number}]", uri, "is named twice")
