"""Conversion of a manifest's columns to the pipeline's: exact ids, positions in ICRS degrees, URIs or images."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.image_uris import image_uris, template_columns
from galaxy_batch.rows import CATALOG_COLUMNS, IMAGE_BYTES, IMAGE_URI
from galaxy_batch.sky.healpix import pixels_at

__all__ = [
    "check_columns",
    "check_kept",
    "column_hashes",
    "contains_images",
    "exact_ids",
    "pipeline_columns",
    "wanted_columns",
]


def check_kept(config: ManifestConfig) -> None:
    """Check that no kept column has the name of a catalog column or is named twice.

    Raises:
        InputError: names the column.
    """
    own = {column.name for column in CATALOG_COLUMNS}
    for name in config.keep_columns:
        if name in own or name.startswith(("p_", "_")):
            raise InputError(
                "manifest.keep_columns", name, "the catalog has a column of this name; rename it in the manifest"
            )
    if len(set(config.keep_columns)) < len(config.keep_columns):
        raise InputError("manifest.keep_columns", config.keep_columns, "names a column twice")


def check_columns(present: list[str], config: ManifestConfig) -> None:
    """Check that the table has every column that the config names.

    Raises:
        InputError: names the first missing column.
    """
    named: dict[str, Iterable[str | None]] = {
        "id_column": [config.id_column],
        "ra_column": [config.ra_column],
        "dec_column": [config.dec_column],
        "image_column": [config.image_column],
        "band_templates" if config.band_templates else "uri_template": template_columns(config),
        "keep_columns": config.keep_columns,
    }
    for key, names in named.items():
        for name in names:
            if name is not None and name not in present:
                raise InputError(
                    f"manifest.{key}", name, f"no such column in {config.uri}; it has {', '.join(present)}"
                )


def wanted_columns(config: ManifestConfig, with_image: bool) -> list[str]:
    """Names of the columns to read, each once."""
    names = [config.id_column, config.ra_column, config.dec_column, *template_columns(config)]
    names += [config.image_column] if with_image else []
    return list(dict.fromkeys(name for name in [*names, *config.keep_columns] if name is not None))


def contains_images(schema: pa.Schema, config: ManifestConfig) -> bool:
    """Whether `image_column` contains the images, rather than their URIs.

    Raises:
        InputError: it contains neither.
    """
    if config.image_column is None or _is_text(schema.field(config.image_column).type):
        return False
    _check_image_type(schema.field(config.image_column).type, config)
    return True


def pipeline_columns(table: pa.Table, config: ManifestConfig, with_bytes: bool) -> pa.Table:
    """`object_id`, `ra`, `dec`, `_healpix_29`, `_image_uri` or `_image_bytes`, and the kept columns of each row.

    Without `with_bytes`, an image column that is not text is ignored and may be absent.

    Raises:
        InputError: a column has an unsupported type, or an id is null.
    """
    columns: dict[str, Any] = {"object_id": exact_ids(table[config.id_column], config.id_column)}
    ra, dec = _positions(table, config)
    columns["ra"] = pa.array(ra, from_pandas=True)
    columns["dec"] = pa.array(dec, from_pandas=True)
    columns["_healpix_29"] = _healpix(ra, dec)
    image = config.image_column
    if image is None or (image in table.column_names and _is_text(table[image].type)):
        columns[IMAGE_URI] = image_uris(table, config)
    elif with_bytes:
        columns |= _embedded(table[image], config)
    columns |= {name: table[name] for name in config.keep_columns}
    return pa.table(columns)


def exact_ids(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Identifiers as int64 or string, unchanged; `name` is the column's, for errors.

    Raises:
        InputError: some are null, or of a type that is not exact.
    """
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise InputError("manifest.id_column", name, f"{column.null_count} rows have no id (the first is row {row})")
    try:
        if pa.types.is_integer(column.type):
            return column.cast(pa.int64())
        if _is_text(column.type):
            return column.cast(pa.string())
    except pa.ArrowInvalid:
        raise InputError(
            "manifest.id_column", name, "ids over 2**63 - 1 do not fit int64: store them as text"
        ) from None
    raise InputError(
        "manifest.id_column", name, f"ids of type {column.type}: use integers or text, a float is not exact"
    )


def column_hashes(column: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """64-bit hash of each value, exact for integers whether or not some are null."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if (pa.types.is_integer(column.type) and not column.null_count) or pa.types.is_floating(column.type):
        return pd.util.hash_array(column.to_numpy())
    if not _is_text(column.type):
        try:
            column = column.cast(pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # nested or binary values
            return pd.util.hash_array(np.array([repr(value) for value in column.to_pylist()], object))
    return pd.util.hash_array(column.fill_null("\0null").to_numpy().astype(object))


def _embedded(column: pa.ChunkedArray, config: ManifestConfig) -> dict[str, Any]:
    """Images of a binary column or of `{bytes, path}` structs (Hugging Face); the path is used where bytes is null."""
    _check_image_type(column.type, config)
    if not pa.types.is_struct(column.type):
        return {IMAGE_BYTES: column.cast(pa.large_binary())}
    content = pc.struct_field(column, "bytes").cast(pa.large_binary())
    if "path" not in _field_names(column.type):
        return {IMAGE_BYTES: content}
    paths = pa.table({"path": pc.if_else(content.is_null(), pc.struct_field(column, "path"), None)})
    return {IMAGE_BYTES: content, IMAGE_URI: image_uris(paths, config, column="path")}


def _check_image_type(kind: pa.DataType, config: ManifestConfig) -> None:
    if pa.types.is_struct(kind) and "bytes" in _field_names(kind):
        return
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InputError(
            "manifest.image_column", config.image_column, f"must contain bytes, {{bytes, path}} or URIs, not {kind}"
        )


def _field_names(kind: pa.DataType) -> list[str]:
    return [kind.field(i).name for i in range(kind.num_fields)]


def _positions(table: pa.Table, config: ManifestConfig) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Right ascension in [0, 360) and declination, in degrees; NaN in both where either is missing or out of range."""
    if config.ra_column is None or config.dec_column is None:
        missing = np.full(len(table), np.nan)
        return missing, missing.copy()
    degrees = []
    for name in (config.ra_column, config.dec_column):
        try:
            degrees.append(table[name].cast(pa.float64()).to_numpy().astype(np.float64))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise InputError(
                "manifest.ra_column", name, f"of type {table[name].type}: decimal degrees are needed"
            ) from None
    ra, dec = degrees
    with np.errstate(invalid="ignore"):
        usable = (ra >= -180) & (ra <= 360) & (np.abs(dec) <= 90)  # false for NaN, and for the -999 of many surveys
    wrapped = np.where(ra < 0, ra + 360, ra)
    wrapped = np.where(wrapped >= 360, 0.0, wrapped)
    return np.where(usable, wrapped, np.nan), np.where(usable, dec, np.nan)


def _healpix(ra: npt.NDArray[np.float64], dec: npt.NDArray[np.float64]) -> pa.Array:
    usable = ~np.isnan(ra)
    pixels = np.zeros(len(ra), np.int64)
    if usable.any():
        pixels[usable] = pixels_at(ra[usable], dec[usable])
    return pa.array(pixels, mask=~usable)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
