"""`manifest.json`: the record of a published catalog. It is written last, and its presence makes the files a catalog.

It is read and checked here once: whoever has a `CatalogManifest` need not look whether something is missing in it.
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from galaxy_batch.catalog import hats
from galaxy_batch.catalog.collection import (
    COLLECTION,
    CollectionFiles,
    collection_problem,
    collection_uri,
    remove_collection,
)
from galaxy_batch.catalog.counts import CatalogCounts, total_counts
from galaxy_batch.catalog.embedding_files import embedding_path
from galaxy_batch.catalog.files import WITHOUT_POSITION, MetadataFile, RowFile, WrittenFile
from galaxy_batch.decision_tree import Question
from galaxy_batch.errors import InputError
from galaxy_batch.review.flags import ReviewFlag, ReviewLimits
from galaxy_batch.rows import IMAGE_URI_COLUMN
from galaxy_batch.settings import parse_config
from galaxy_batch.storage.files import join, read_bytes, remove_tree, write_json

__all__ = [
    "FORMAT",
    "MANIFEST",
    "CatalogManifest",
    "CatalogProvenance",
    "ManifestError",
    "manifest_content",
    "parse_manifest",
    "publish_manifest",
    "read_manifest",
    "require_manifest",
    "unpublish",
]

MANIFEST = "manifest.json"
FORMAT = 2
"""Of the parts and the catalog that are written; part of the fingerprint."""
_READABLE_FORMATS = (2,)
"""Formats of published catalogs. A rule that differs between them asks `CatalogManifest.format`."""


class ManifestError(ValueError):
    """Bytes that are not the manifest of a catalog: one sentence per problem."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__(*problems)


@dataclass(frozen=True, kw_only=True)
class CatalogProvenance:
    """What a catalog was made from, and how."""

    manifest_rows: int
    """Rows of the survey's manifest."""
    release: str
    model_id: str
    fingerprint: str
    run_id: str
    created: str = ""
    """UTC, ISO 8601."""
    survey: str = ""
    """URI of the survey's manifest, without secrets."""
    classes: tuple[str, ...]
    """Of the checkpoint, in order."""
    min_confidence: float
    """Limit of LOW_CONFIDENCE."""
    max_unfamiliarity: float | None
    """Limit of UNFAMILIAR; None: no row has this flag."""
    max_instability: float | None
    """Limit of UNSTABLE; None: no row has this flag."""
    schema: dict[str, str]
    """Name and type of each column, in order."""
    checkpoint: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Metadata of the checkpoint."""
    config: dict[str, Any]
    """Settings of the run, without secrets."""
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    """Of the packages that made it."""
    reuse: dict[str, Any] | None = None
    """Rows by where their predictions come from; None where no previous catalog was used."""
    max_rows: int
    """Limit of the rows of one file."""
    margin_arcsec: float = 0.0
    """Width of the margin cache beside the catalog; 0 where there is none."""
    index: bool = False
    """Whether there is an index by `object_id` beside the catalog."""


@dataclass(frozen=True, kw_only=True)
class CatalogManifest(CatalogProvenance, CatalogCounts):
    """The content of `manifest.json`; fields are named as its keys."""

    files: tuple[RowFile, ...]
    metadata_files: tuple[MetadataFile, ...]
    embedding_files: tuple[RowFile, ...] = ()
    """One for each of `files`; none in a catalog without embeddings."""
    margin_files: tuple[RowFile, ...] = ()
    """Of the margin cache; paths of this and the next two are below the folder of the collection, above the catalog."""
    index_files: tuple[RowFile, ...] = ()
    """Of the index by `object_id`."""
    collection_files: tuple[MetadataFile, ...] = ()
    """Those that describe the margin cache, the index and the collection."""
    format: int = FORMAT

    @property
    def id_type(self) -> pa.DataType:
        """Of `object_id`: int64 or string."""
        return pa.string() if self.schema.get("object_id") == "string" else pa.int64()

    @property
    def flags(self) -> tuple[ReviewFlag, ...]:
        """The flags of the version that wrote the catalog."""
        return tuple(flag for flag in ReviewFlag if flag.name in self.flag_counts)

    @property
    def questions(self) -> tuple[Question, ...]:
        """The questions of the decision tree that the checkpoint answers."""
        return tuple(map(Question.from_json, self.checkpoint.get("spec", {}).get("questions", ())))

    @property
    def concentrations(self) -> bool:
        """Whether the catalog has the concentrations of the answers."""
        return bool((self.config.get("classify") or {}).get("concentrations", False))

    @property
    def keeps_image_uri(self) -> bool:
        """Whether the catalog has the location of each cutout as a column of its own, not one of the survey's."""
        return bool((self.config.get("manifest") or {}).get("keep_image_uri", False))

    @property
    def has_image_uri(self) -> bool:
        """Whether the catalog has a column with the location of each cutout, of its own or of the survey."""
        return self.schema.get(IMAGE_URI_COLUMN.name) == "string"

    @property
    def embedding_size(self) -> int:
        """How many numbers the embedding of a cutout has; 0 in a catalog without embeddings."""
        return int((self.config.get("classify") or {}).get("embedding", 0))

    @property
    def embeddings(self) -> dict[str, RowFile]:
        """The file of embeddings of each file of rows, by the path of the latter, in the order of `files`."""
        by_path = {file.path: file for file in self.embedding_files}
        return {file.path: by_path[embedding_path(file.path)] for file in self.files} if by_path else {}

    @property
    def inside(self) -> tuple[RowFile | MetadataFile, ...]:
        """Every file of the catalog itself but `manifest.json`."""
        return (*self.files, *self.metadata_files, *self.embedding_files)

    @property
    def beside(self) -> CollectionFiles:
        """The files beside the catalog."""
        return CollectionFiles(self.margin_files, self.index_files, self.collection_files)

    @property
    def review_limits(self) -> ReviewLimits:
        """The settings by which these flags were set; those of flags measured on pixels are not needed."""
        names = {name for flag in self.flags if not flag.condition.on_pixels for name in flag.condition.settings}
        tiles = (self.config.get("manifest") or {}).get("tiles") or {}
        limit = {"max_empty_fraction": tiles.get("max_empty_fraction")}
        values = {**limit, **self.config["review"], **vars(self)}
        # Older versions set NO_POSITION on every row of a survey without columns of positions.
        ra_column = (self.config.get("manifest") or {}).get("ra_column", "")
        has_positions = ra_column is not None or self.flag_counts.get("NO_POSITION", 0) > 0
        return parse_config(ReviewLimits, {"has_positions": has_positions, **{name: values[name] for name in names}})

    def as_json(self) -> dict[str, Any]:
        """The content as it is written, in this order."""
        entries = dataclasses.asdict(self)
        return {"format": entries.pop("format"), **entries}


def publish_manifest(
    catalog_uri: str,
    written: Sequence[WrittenFile],
    metadata_files: Iterable[MetadataFile],
    provenance: CatalogProvenance,
    beside: CollectionFiles = CollectionFiles(),  # noqa: B008 - it is frozen
) -> CatalogManifest:
    """Write `manifest.json`, which publishes the files."""
    manifest = CatalogManifest(
        **vars(total_counts(file.counts for file in written)),
        **vars(provenance),
        files=tuple(sorted((file.file for file in written), key=lambda file: file.path)),
        metadata_files=tuple(sorted(metadata_files, key=lambda file: file.path)),
        embedding_files=tuple(
            sorted((file.embeddings for file in written if file.embeddings), key=lambda file: file.path)
        ),
        margin_files=beside.margin,
        index_files=beside.index,
        collection_files=beside.others,
    )
    content = manifest.as_json()
    checked = parse_manifest(json.dumps(content).encode())  # what readers would refuse is not published
    write_json(join(catalog_uri, MANIFEST), content)
    return checked


def manifest_content(catalog_uri: str, field: str = "catalog_uri") -> bytes | None:
    """The bytes of `manifest.json`; None where no catalog is published. Raises InputError where access is refused."""
    try:
        return read_bytes(join(catalog_uri, MANIFEST))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise InputError(field, catalog_uri, f"cannot be read: {error}") from None


def read_manifest(catalog_uri: str, field: str = "catalog_uri") -> CatalogManifest | None:
    """The manifest of a catalog; None where no catalog is published.

    Args:
        catalog_uri: the catalog's folder.
        field: the setting that names the catalog, for the error.

    Raises:
        InputError: the file is there, and is damaged or of a format that this version does not read, or may not be
            read.
    """
    content = manifest_content(catalog_uri, field)
    if content is None:
        return None
    try:
        return parse_manifest(content)
    except ManifestError as error:
        raise InputError(field, catalog_uri, f"{MANIFEST}: {'; '.join(error.problems[:5])}") from None


def require_manifest(catalog_uri: str, field: str = "catalog_uri") -> CatalogManifest:
    """The manifest of a catalog that must be there. Raises InputError, as `read_manifest`, also where none is."""
    manifest = read_manifest(catalog_uri, field)
    if manifest is None:
        raise InputError(field, catalog_uri, f"no catalog is published there: no {MANIFEST}")
    return manifest


def parse_manifest(content: bytes) -> CatalogManifest:
    """Parse and check the content of `manifest.json`. Keys that are not known are ignored.

    Raises:
        ManifestError: something is missing in it, or wrong.
    """
    try:
        entries = json.loads(content)
    except ValueError:
        raise ManifestError("is damaged: not JSON") from None
    if not isinstance(entries, dict):
        raise ManifestError("is damaged: not a JSON object")
    if entries.get("format") not in _READABLE_FORMATS:
        readable = ", ".join(map(str, _READABLE_FORMATS))
        raise ManifestError(f"its format is {entries.get('format')}; this version reads format {readable}")
    known = [field.name for field in dataclasses.fields(CatalogManifest)]
    try:
        manifest = parse_config(CatalogManifest, {name: entries[name] for name in known if name in entries})
    except InputError as error:
        raise ManifestError(f"{error.field} {error.remedy}") from None
    problems = list(_problems(manifest))
    if problems:
        raise ManifestError(*problems)
    return manifest


def _problems(manifest: CatalogManifest) -> Iterator[str]:
    """What is wrong in values of the right types."""
    try:
        _ = manifest.review_limits
    except (KeyError, TypeError, InputError) as error:
        yield f"its config does not say how rows were flagged ({error})"
    try:
        _ = manifest.questions
    except (KeyError, TypeError, AttributeError) as error:
        yield f"its checkpoint does not say which questions it answers ({error})"
    paths = [file.path for file in manifest.files]
    yield from (f"{path} is listed {times} times" for path, times in Counter(paths).items() if times > 1)
    for number, path in enumerate(sorted(path for path in paths if hats.pixel_of(path) is None)):
        if path != f"{WITHOUT_POSITION}/part-{number:06d}.parquet":
            yield f"{path} is not where a file of rows belongs"
    expected = sorted((embedding_path(file.path), file.rows) for file in manifest.files)
    if sorted((file.path, file.rows) for file in manifest.embedding_files) != (
        expected if manifest.embedding_size else []
    ):
        yield "embedding_files must be one for each file of rows, with as many rows; none without classify.embedding"
    listed = sorted(file.path for file in manifest.metadata_files)
    if listed not in (sorted(hats.METADATA_FILES), sorted({*hats.METADATA_FILES} - {hats.METADATA})):
        yield f"metadata_files must be {', '.join(sorted(hats.METADATA_FILES))}; {hats.METADATA} is optional"
    problem = collection_problem(manifest, manifest.beside)
    if problem:
        yield problem


def unpublish(catalog_uri: str) -> None:
    """Remove a catalog and what is beside it, or the files of an interrupted publication.

    First what makes it a HATS collection, then the manifest, which makes it a catalog.
    """
    remove_tree(join(collection_uri(catalog_uri), COLLECTION))
    remove_tree(join(catalog_uri, MANIFEST))
    remove_tree(catalog_uri)
    remove_collection(catalog_uri)
