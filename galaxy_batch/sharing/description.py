"""What the documents of a shared catalog say of it: its numbers, its columns, its checkpoint, and what people know."""

import json
import math
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from jinja2 import Environment, PackageLoader, StrictUndefined

from galaxy_batch.audit.result import PromisedAccuracy
from galaxy_batch.catalog import hats
from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.catalog.read_files import read_schema, row_groups
from galaxy_batch.errors import without_secrets
from galaxy_batch.report.page import count, interval, percent
from galaxy_batch.rows import ReviewFlag
from galaxy_batch.sharing.config import HUB, ShareMetadata
from galaxy_batch.stats import share
from galaxy_batch.storage.files import beside, filesystem, join, read_bytes

__all__ = [
    "CHECKPOINT",
    "ColumnDescription",
    "SharedCatalog",
    "markdown",
    "read_audits",
    "read_columns",
    "read_position",
    "shown_uri",
]

CHECKPOINT = "model/model.safetensors"
"""The checkpoint, below the target."""


@dataclass(frozen=True)
class ColumnDescription:
    """A column, as people read about it."""

    name: str
    type: pa.DataType
    unit: str
    ucd: str
    description: str

    @property
    def shown_type(self) -> str:
        """The type as people who do not use Arrow know it."""
        return {"double": "float64", "float": "float32"}.get(str(self.type), str(self.type))


@dataclass(frozen=True, kw_only=True)
class SharedCatalog:
    """A catalog, and everything that its documents say about it."""

    manifest: CatalogManifest
    columns: tuple[ColumnDescription, ...]
    about: ShareMetadata
    audits: Mapping[str, Mapping[str, Any]]
    """Content of `audit.json` by the name of the audit."""
    target_uri: str
    files: tuple[str, ...]
    """Names of the files at the target, without documents."""
    size: int
    """Of these files, in bytes."""
    checkpoint: Mapping[str, Any]
    """Metadata of the checkpoint."""
    position: tuple[float, float] | None = None
    """Right ascension and declination of one object, in degrees; None where no object has a position."""
    checkpoint_card: str | None = None
    """The card of a checkpoint that ships with the package; None for any other."""

    @property
    def title(self) -> str:
        """The title that people gave it, or one from the release."""
        return self.about.title or f"Galaxy morphologies of {self.manifest.release}"

    @property
    def summary(self) -> str:
        """A sentence about what it is."""
        rows, classes = self.manifest.rows, " or ".join(self.manifest.classes)
        return (
            f"Morphological classes ({classes}) of {count(rows, 'object')} of the release {self.manifest.release}, "
            f"with calibrated probabilities and review flags, predicted from image cutouts by the neural network "
            f"{self.manifest.model_id}."
        )

    @property
    def description(self) -> str:
        """What people say about it, and the summary."""
        return "\n\n".join(filter(None, (self.about.description.strip(), self.summary)))

    @property
    def version(self) -> str:
        """The version that people gave it, or the release."""
        return self.about.version or self.manifest.release

    @property
    def date(self) -> str:
        """The day it was made, ISO 8601; empty where it is not known."""
        return self.manifest.created[:10]

    @property
    def url(self) -> str | None:
        """Web page of the catalog: the one that people gave, the hub's, or that of the DOI."""
        if self.about.url:
            return self.about.url
        if self.is_on_hub:
            return self.hub_url
        return f"https://doi.org/{self.about.doi}" if self.about.doi else None

    @property
    def is_on_hub(self) -> bool:
        """Whether it is shared to the Hugging Face hub."""
        return self.target_uri.startswith(HUB)

    @property
    def hub_url(self) -> str:
        """Its page on the hub."""
        return f"https://huggingface.co/{self.target_uri.removeprefix(HUB).rstrip('/')}"

    @property
    def classified(self) -> int:
        """Rows with a class."""
        return self.manifest.rows - self.manifest.failed

    @property
    def has_checkpoint(self) -> bool:
        """Whether the checkpoint is shared with it."""
        return CHECKPOINT in self.files

    @property
    def checkpoint_license(self) -> str | None:
        """Licence of the checkpoint, where it is known."""
        return self.about.checkpoint_license

    @property
    def promised(self) -> PromisedAccuracy | None:
        """Accuracy of the checkpoint on its test galaxies."""
        return PromisedAccuracy.of(self.checkpoint)

    def flagged(self, flag: ReviewFlag) -> float:
        """The share of the rows with a class that have a flag; nan where the flag does not exist."""
        rows = self.manifest.flag_counts.get(str(flag.name))
        return math.nan if rows is None else share(rows, self.classified)


def read_columns(catalog_uri: str) -> tuple[ColumnDescription, ...]:
    """The columns of a catalog, with unit, UCD and description, from the metadata of its schema."""
    return tuple(map(_column, read_schema(catalog_uri)))


def read_position(catalog_uri: str, manifest: CatalogManifest) -> tuple[float, float] | None:
    """Right ascension and declination of the first object of a catalog, in degrees; None where none has a position."""
    for file in manifest.files:
        if hats.pixel_of(file.path) is not None:
            _, rows = next(row_groups(catalog_uri, file, ["ra", "dec"]))
            return rows["ra"][0].as_py(), rows["dec"][0].as_py()
    return None


def _column(field: pa.Field) -> ColumnDescription:
    entries = {key.decode(): value.decode("utf-8", "replace") for key, value in (field.metadata or {}).items()}
    description = entries.get("description", "As in the survey's manifest")
    return ColumnDescription(field.name, field.type, entries.get("unit", ""), entries.get("ucd", ""), description)


def read_audits(catalog_uri: str, manifest: CatalogManifest) -> dict[str, Mapping[str, Any]]:
    """The audits beside a catalog that are about it, by name."""
    folder = beside(catalog_uri, "audit")
    fs, root = filesystem(folder)
    audits = {}
    for path in sorted(fs.find(root)):
        if posixpath.basename(path) == "audit.json":
            name = posixpath.basename(posixpath.dirname(path))
            audit = json.loads(read_bytes(join(folder, path[len(root.rstrip("/")) + 1 :])))
            same = ("release", "model_id", "rows")
            if [audit.get(key) for key in same] == [getattr(manifest, key) for key in same]:
                audits[name] = audit
    return audits


def shown_uri(uri: str) -> str:
    """A location for readers elsewhere: without credentials; of a local file only the name."""
    shown = without_secrets(uri)
    return shown if "://" in shown and not shown.startswith("file://") else posixpath.basename(shown.rstrip("/"))


def markdown(template: str, **values: Any) -> str:
    """A Markdown document from a template of this package."""
    environment = Environment(  # noqa: S701 - Markdown; texts in tables are escaped by `cell`
        loader=PackageLoader("galaxy_batch.sharing"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": _cell, "count": count, "interval": interval, "percent": percent}
    return environment.get_template(template).render(**values)


def _cell(text: object) -> str:
    """Text as the cell of a table."""
    return " ".join(str(text).split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
