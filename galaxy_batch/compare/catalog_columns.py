"""The columns of a published catalog that a comparison reads, in memory."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.catalog.manifest import MANIFEST, CatalogManifest
from galaxy_batch.catalog.read_files import read_file
from galaxy_batch.errors import InputError, without_secrets
from galaxy_batch.rows import probability_columns
from galaxy_batch.runtime.progress import with_progress

__all__ = ["CatalogColumns", "read_columns"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CatalogColumns:
    """All rows of a catalog, with and without a position; ``(N,)`` each."""

    uri: str
    release: str
    model_id: str
    classes: tuple[str, ...]
    """Of the catalog's own checkpoint, in order."""
    ids: pa.ChunkedArray
    """int64 or string."""
    label: npt.NDArray[np.int8]
    """Index of the class among those of the comparison; −1 without a class."""
    confidence: npt.NDArray[np.float32]
    """nan without a class."""
    probabilities: dict[str, npt.NDArray[np.float32]]
    """By class; nan without a class."""
    flags: npt.NDArray[np.int32]
    ra: npt.NDArray[np.float64]
    """Degrees; nan without a position."""
    dec: npt.NDArray[np.float64]
    """Degrees; nan without a position."""
    pixel: npt.NDArray[np.int64]
    """Nested, order 29; −1 without a position."""
    columns: dict[str, npt.NDArray[np.float64]]
    """Further columns, by name; nan for null."""

    def __len__(self) -> int:
        return len(self.label)


def read_columns(
    field: str, uri: str, manifest: CatalogManifest, classes: Sequence[str], columns: Sequence[str] = ()
) -> CatalogColumns:
    """Read only the columns that are compared, a file at a time.

    Takes 40 bytes a row, 4 for each class, 8 for each further column, and the ids: 8 bytes, or the string's length.

    Args:
        field: the setting with the catalog's URI, for error messages.
        uri: the catalog's folder.
        manifest: of the catalog.
        classes: those of both catalogs.
        columns: further numeric columns.

    Raises:
        InputError: a column or a file is missing or invalid.
    """
    own = manifest.classes
    missing = [name for name in columns if name not in manifest.schema]
    if missing:
        raise InputError("bin_columns", missing[0], f"not a column of {without_secrets(uri)}; see keep_columns")
    names = ["object_id", "predicted_class", "confidence", *probability_columns(own), "review_flags", "ra", "dec"]
    names = list(dict.fromkeys([*names, "_healpix_29", *columns]))
    pieces: list[dict[str, Any]] = []
    for entry in with_progress(manifest.files, "reading", manifest.rows, lambda file: file.rows):
        table = read_file(uri, entry.path, lambda parquet: parquet.read(columns=names), field)
        pieces.append(_plain(table, own, classes, columns))
    if not pieces:
        raise InputError(field, uri, f"{MANIFEST} lists no files: verify the catalog")
    merged = {name: _joined([piece.pop(name) for piece in pieces]) for name in list(pieces[0])}
    logger.info("%s: %d rows of release %s", without_secrets(uri), len(merged["label"]), manifest.release)
    return CatalogColumns(
        uri=uri,
        release=manifest.release,
        model_id=manifest.model_id,
        classes=own,
        probabilities={name: merged.pop(f"p_{name}") for name in own},
        columns={name: merged.pop(f"column {name}") for name in columns},
        **merged,
    )


def _plain(table: pa.Table, own: Sequence[str], classes: Sequence[str], columns: Sequence[str]) -> dict[str, Any]:
    """The columns of one file as NumPy arrays; the ids stay Arrow."""
    for name in columns:
        kind = table.schema.field(name).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
            raise InputError("bin_columns", name, f"must be a numeric column, not {kind}")
    label = pc.fill_null(pc.index_in(table["predicted_class"], value_set=pa.array(classes, pa.string())), -1)
    return {
        "ids": table["object_id"],
        "label": label.to_numpy().astype(np.int8),
        "confidence": _floats(table["confidence"], pa.float32()),
        **{f"p_{name}": _floats(table[f"p_{name}"], pa.float32()) for name in own},
        "flags": table["review_flags"].to_numpy().astype(np.int32),
        "ra": _floats(table["ra"], pa.float64()),
        "dec": _floats(table["dec"], pa.float64()),
        "pixel": pc.fill_null(table["_healpix_29"], -1).to_numpy(),
        **{f"column {name}": _floats(table[name], pa.float64()) for name in columns},
    }


def _floats(column: pa.ChunkedArray, kind: pa.DataType) -> npt.NDArray[Any]:
    return np.asarray(column.cast(kind, safe=False).to_numpy(), kind.to_pandas_dtype())


def _joined(pieces: list[Any]) -> Any:
    """One column of all files."""
    if isinstance(pieces[0], pa.ChunkedArray):
        return pa.chunked_array([chunk for piece in pieces for chunk in piece.chunks], type=pieces[0].type)
    return np.concatenate(pieces)
