"""Start here: every column a row can have, and what each means.

A row is one object of the survey. It begins as a line of the manifest (`object_id`, a position, where
its cutout is), gains columns as it walks through `pipeline.classify_release`, and ends as a line of the
published catalog. Columns are added over time, never renamed: other people's queries rely on them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

from galaxy_batch.review.flags import ReviewFlag, flag_names

__all__ = [
    "BLANK_FRACTION",
    "CATALOG_COLUMNS",
    "CHUNK",
    "IMAGE_BYTES",
    "IMAGE_URI",
    "MODEL_COLUMNS",
    "ORIGIN",
    "Column",
    "Origin",
    "ReviewFlag",
    "Status",
    "UnusableCutout",
    "catalog_schema",
    "column_metadata",
    "flag_names",
    "probability_columns",
]

# Columns that travel between stages and never reach the catalog.
CHUNK = "_chunk"
"""int32: the chunk that the row belongs to; the same number in every row of a block."""
IMAGE_URI = "_image_uri"
"""string: where the cutout is, or a list of three, one per band, red first; absent when the manifest holds the bytes
themselves."""
IMAGE_BYTES = "_image_bytes"
"""large_binary: the encoded cutout as it was stored, or `pack_bands` of its three files; null where it could not be
had."""
BLANK_FRACTION = "_blank_fraction"
"""float32: share of the cutout's pixels that differ from its median by at most a rounding step."""
ORIGIN = "_origin"
"""string: an `Origin`; absent where no earlier catalog was looked into."""


class Status(StrEnum):
    """What became of a row's cutout."""

    OK = "ok"  # decoded and classified
    MISSING = "missing"  # nothing is stored there
    UNREACHABLE = "unreachable"  # the store did not answer, after retries
    REFUSED = "refused"  # the location is not one that this manifest may name
    UNREADABLE = "unreadable"  # bytes that are not a whole image
    TOO_LARGE = "too_large"  # more bytes or pixels than allowed
    CRASHED = "crashed"  # ends the process that reads it, or keeps it for ever


class Origin(StrEnum):
    """Where a row's answer comes from, when there is an earlier catalog."""

    REUSED = "reused"  # from there: the same object, cutout and model
    RECOMPUTED = "recomputed"  # it has the object, and another cutout or no class
    NEW = "new"  # it does not have the object


class UnusableCutout(Exception):  # noqa: N818 - a fact about a row more than an error
    """A cutout without pixels: `status` says of which kind, the message why."""

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


_LABEL = pa.string()  # Parquet stores each label once; as Arrow dictionaries astropy could not read them
_FLAG_BITS = "; ".join(f"{flag.value} {flag.name}, {flag.meaning}" for flag in ReviewFlag)

CATALOG_COLUMNS: tuple[Column, ...] = (
    Column("object_id", pa.int64(), "The manifest's identifier, exactly (int64 or string)", ucd="meta.id;meta.main"),
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
        "Largest standard deviation of a class probability over flips and turns of the cutout; null without an image, "
        "or with one view",
        ucd="stat.stdev;stat.probability",
        of_model=True,
    ),
    Column("review_flags", pa.int32(), f"Why a person should look, a bitmask: {_FLAG_BITS}", ucd="meta.code.qual"),
    Column("needs_review", pa.bool_(), "True where any bit of review_flags is set", ucd="meta.code.qual"),
    Column("status", _LABEL, f"What became of the cutout: {', '.join(Status)}", ucd="meta.code.status"),
    Column("error", pa.string(), "What went wrong with the cutout; null when status is ok", ucd="meta.note"),
    Column("image_hash", pa.int64(), "64-bit BLAKE2b hash of the encoded cutout", ucd="meta.id;meta.file"),
    Column("release", _LABEL, "Survey release that the manifest belongs to", ucd="meta.version"),
    Column("model_id", _LABEL, "Content id of the checkpoint that classified the row", ucd="meta.id;meta.modelled"),
    Column("_healpix_29", pa.int64(), "HEALPix pixel, nested, order 29, of ra, dec", ucd="pos.healpix"),
)

MODEL_COLUMNS = tuple(column.name for column in CATALOG_COLUMNS if column.of_model)
"""Columns that are fields of `ModelOutput`, in the catalog's order."""


def probability_columns(classes: Iterable[str]) -> list[str]:
    """Names of the probability columns, `p_<class>`, in the checkpoint's class order."""
    return [f"p_{name}" for name in classes]


def catalog_schema(id_type: pa.DataType, classes: Sequence[str], kept: Iterable[pa.Field] = ()) -> pa.Schema:
    """Schema of a catalog: the columns of this module, one probability per class, and the kept ones.

    Args:
        id_type: int64 or string, as the manifest has it.
        classes: the checkpoint's classes, in order.
        kept: the manifest's fields named in `keep_columns`.
    """
    columns: list[Column] = []
    for column in CATALOG_COLUMNS:
        columns.append(column)
        if column.name == "confidence":
            columns += [
                Column(name, pa.float32(), f"Calibrated probability of class {label}", ucd="stat.probability")
                for name, label in zip(probability_columns(classes), classes, strict=True)
            ]
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
