"""Start here: every column a row can have, and its meaning. The review flags are in `review/flags.py`.

A row is one object of the survey. It starts as a row of the manifest (`object_id`, position, location of its cutout),
gains columns in the stages of `pipeline.classify_release`, and ends as a row of the published catalog. Columns are
added over time and never renamed: other people's queries rely on them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

from galaxy_batch.decision_tree import Question
from galaxy_batch.review.flags import ReviewFlag, flag_names

__all__ = [
    "BLANK_FRACTION",
    "CATALOG_COLUMNS",
    "CHUNK",
    "EMBEDDING",
    "EMPTY_FRACTION",
    "IMAGE_BYTES",
    "IMAGE_URI",
    "IMAGE_URI_COLUMN",
    "MODEL_COLUMNS",
    "NO_URI",
    "ORIGIN",
    "SIDE_ARCSEC",
    "Column",
    "Origin",
    "ReviewFlag",
    "Status",
    "UnusableCutout",
    "catalog_schema",
    "column_metadata",
    "flag_names",
    "prediction_columns",
    "probability_columns",
    "question_columns",
]

# Columns that are passed between stages and are not in the catalog.
CHUNK = "_chunk"
"""int32: number of the row's chunk; the same in every row of a block."""
IMAGE_URI = "_image_uri"
"""string: URI of the cutout, or a list of three, one per band, red first; absent when the manifest has the bytes. With
`manifest.tiles`, the three files of the object's tile; null outside every tile."""
SIDE_ARCSEC = "_side_arcsec"
"""float64: side of the cutout on the sky, with `manifest.tiles`; nan where it is not known."""
NO_URI = ""
"""URI of the cutout of an object without one: no row in the second table of a join, or neither bytes nor a path. Its
status is `missing`."""
IMAGE_BYTES = "_image_bytes"
"""large_binary: the encoded cutout as stored, or `pack_bands` of its three files; null where it could not be read, or
where nothing is left to decode."""
BLANK_FRACTION = "_blank_fraction"
"""float32: share of the cutout's pixels within one level of its median; null where the cutout was not decoded."""
EMBEDDING = "_embedding"
"""fixed_size_binary: the embedding in float16, see `embeddings`; null without an image; absent where none is wanted. It
is published beside the rows."""
ORIGIN = "_origin"
"""string: an `Origin`; absent where no previous catalog is used."""


class Status(StrEnum):
    """Whether a row's cutout was classified, or why not."""

    OK = "ok"  # decoded and classified
    MISSING = "missing"  # no such file
    UNREACHABLE = "unreachable"  # the store failed, after retries
    REFUSED = "refused"  # a location that this manifest may not name
    UNREADABLE = "unreadable"  # not a complete image
    TOO_LARGE = "too_large"  # more bytes or pixels than allowed
    CRASHED = "crashed"  # decoding or classifying it kills the process or does not end


class Origin(StrEnum):
    """Where a row's predictions come from, when a previous catalog is used."""

    REUSED = "reused"  # from that catalog: same object, cutout and model
    RECOMPUTED = "recomputed"  # computed: that catalog has the object with another cutout or without a class
    NEW = "new"  # computed: that catalog does not have the object


class UnusableCutout(Exception):  # noqa: N818 - a property of a row, not a failure of the job
    """A cutout that gives no pixels: the row gets this `status`, and the message as its `error`."""

    def __init__(self, status: Status, reason: str) -> None:
        self.status, self.reason = status, reason
        super().__init__(status, reason)


@dataclass(frozen=True)
class Column:
    """One column of the catalog: its Arrow type, unit (VOUnits), UCD (IVOA UCD1+) and meaning."""

    name: str
    type: pa.DataType
    description: str
    unit: str = ""
    ucd: str = ""
    of_model: bool = False
    """Whether the values are the field of this name of `ModelOutput`; nan there is null here."""


_LABEL = pa.string()  # Parquet stores each label once; astropy cannot read Arrow dictionaries
_FLAG_BITS = "; ".join(f"{flag.value} {flag.name}, {flag.meaning}" for flag in ReviewFlag)

CATALOG_COLUMNS: tuple[Column, ...] = (
    Column("object_id", pa.int64(), "Identifier from the manifest, exact (int64 or string)", ucd="meta.id;meta.main"),
    Column("ra", pa.float64(), "Right ascension, ICRS", unit="deg", ucd="pos.eq.ra;meta.main"),
    Column("dec", pa.float64(), "Declination, ICRS", unit="deg", ucd="pos.eq.dec;meta.main"),
    Column("predicted_class", _LABEL, "Most probable morphology class; null without an image", ucd="src.morph.type"),
    Column("confidence", pa.float32(), "Calibrated probability of predicted_class", ucd="stat.probability"),
    Column(
        "unfamiliarity",
        pa.float32(),
        "Distance of the cutout from the training galaxies, 1 for an average one; null without an image, or where the "
        "checkpoint has no statistics of them",
        ucd="stat.value",
        of_model=True,
    ),
    Column(
        "instability",
        pa.float32(),
        "Largest standard deviation of a class probability over flips and quarter turns of the cutout; null without "
        "an image, or where one view was sure enough",
        ucd="stat.stdev;stat.probability",
        of_model=True,
    ),
    Column("review_flags", pa.int32(), f"Reasons for review, a bitmask: {_FLAG_BITS}", ucd="meta.code.qual"),
    Column("needs_review", pa.bool_(), "True where any bit of review_flags is set", ucd="meta.code.qual"),
    Column("status", _LABEL, f"State of the cutout: {', '.join(Status)}", ucd="meta.code.status"),
    Column("error", pa.string(), "What went wrong with the cutout; null when status is ok", ucd="meta.note"),
    Column("image_hash", pa.int64(), "64-bit BLAKE2b hash of the encoded cutout", ucd="meta.id;meta.file"),
    Column("release", _LABEL, "Survey release that the manifest belongs to", ucd="meta.version"),
    Column("model_id", _LABEL, "Content id of the checkpoint that classified the row", ucd="meta.id;meta.modelled"),
    Column("_healpix_29", pa.int64(), "HEALPix pixel, nested, order 29, of ra, dec", ucd="pos.healpix"),
)

IMAGE_URI_COLUMN = Column(
    "image_uri",
    pa.string(),
    "Location of the cutout, without credentials; of three bands, red first, separated by spaces",
    ucd="meta.ref.url;meta.file",
)
"""Column after `image_hash` in catalogs with `manifest.keep_image_uri`."""

EMPTY_FRACTION = Column(
    "empty_fraction",
    pa.float32(),
    "Share of the cutout without data, in the band with most of it: beyond the edge of its tile, or masked there",
    ucd="arith.ratio",
)
"""A further column of catalogs whose cutouts are cut from tiles; null where the tile could not be read."""

MODEL_COLUMNS = tuple(column.name for column in CATALOG_COLUMNS if column.of_model)
"""Columns that are fields of `ModelOutput`, in the catalog's order."""


def probability_columns(classes: Iterable[str]) -> list[str]:
    """Names of the probability columns, `p_<class>`, in the checkpoint's class order."""
    return [f"p_{name}" for name in classes]


def question_columns(questions: Iterable[Question], concentrations: bool = False) -> list[Column]:
    """Columns of the decision tree: by question, the share asked, the fraction of each answer, its concentration.

    Args:
        questions: that the checkpoint knows.
        concentrations: whether the catalog has them.
    """
    columns = []
    for question in questions:
        title = question.title
        columns.append(
            Column(
                question.asked_column,
                pa.float32(),
                f"Expected share of the volunteers who are asked: {title}",
                ucd="stat.probability",
            )
        )
        answers = [answer.title for answer in question.answers]
        columns += [
            Column(
                name,
                pa.float32(),
                f"Expected share of the volunteers asked ({title}) who answer: {answer}",
                ucd="stat.probability;src.morph",
            )
            for name, answer in zip(question.fraction_columns, answers, strict=True)
        ]
        if concentrations:
            columns += [
                Column(
                    name,
                    pa.float32(),
                    f"Dirichlet concentration of the answer ({title}): {answer}",
                    ucd="stat.fit.param",
                )
                for name, answer in zip(question.dirichlet_columns, answers, strict=True)
            ]
    return columns


def prediction_columns(
    classes: Iterable[str], questions: Iterable[Question] = (), concentrations: bool = False
) -> list[str]:
    """Names of all columns that the model computes, apart from `predicted_class` and `confidence`, which follow."""
    names = [column.name for column in question_columns(questions, concentrations)]
    return [*probability_columns(classes), *MODEL_COLUMNS, *names]


def catalog_schema(
    id_type: pa.DataType,
    classes: Sequence[str],
    kept: Iterable[pa.Field] = (),
    questions: Sequence[Question] = (),
    concentrations: bool = False,
    image_uri: bool = False,
) -> pa.Schema:
    """Schema of a catalog: the columns of this module, one probability per class, the questions, and the kept ones.

    Args:
        id_type: int64 or string, as the manifest has it.
        classes: the checkpoint's classes, in order.
        kept: the manifest's fields named in `keep_columns`.
        questions: of the decision tree, that the checkpoint knows.
        concentrations: whether the catalog has the concentrations of their answers.
        image_uri: whether it has the location of each cutout.
    """
    columns: list[Column] = []
    for column in CATALOG_COLUMNS:
        columns.append(column)
        if column.name == "confidence":
            columns += [
                Column(name, pa.float32(), f"Calibrated probability of class {label}", ucd="stat.probability")
                for name, label in zip(probability_columns(classes), classes, strict=True)
            ]
        if column.name == MODEL_COLUMNS[-1]:
            columns += question_columns(questions, concentrations)
        if column.name == "image_hash" and image_uri:
            columns.append(IMAGE_URI_COLUMN)
    fields = [
        pa.field(c.name, id_type if c.name == "object_id" else c.type, metadata=column_metadata(c)) for c in columns
    ]
    return pa.schema([*fields, *(field.with_type(_plain(field.type)) for field in kept)])


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def column_metadata(column: Column) -> dict[str, str]:
    """Unit, UCD and description as Arrow field metadata; empty ones left out."""
    entries = {"unit": column.unit, "ucd": column.ucd, "description": column.description}
    return {key: value for key, value in entries.items() if value}
