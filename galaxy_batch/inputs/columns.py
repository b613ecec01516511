"""Conversion of a manifest's columns to the pipeline's: exact ids, positions in ICRS degrees, URIs or images."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.config import ManifestConfig, TilesConfig
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.agreed_types import INFERRED
from galaxy_batch.inputs.flux_arrays import fits_files, is_flux
from galaxy_batch.inputs.image_uris import image_uris, published_locations, template_columns
from galaxy_batch.inputs.plain_types import is_binary, is_text, plain, value_type
from galaxy_batch.inputs.positions import degrees, usable_positions
from galaxy_batch.rows import CATALOG_COLUMNS, IMAGE_BYTES, IMAGE_URI, IMAGE_URI_COLUMN, NO_URI, SIDE_ARCSEC
from galaxy_batch.sky.healpix import pixels_at

__all__ = [
    "check_columns",
    "check_kept",
    "check_kept_names",
    "column_hashes",
    "contains_images",
    "exact_ids",
    "kept_columns",
    "pipeline_columns",
    "setting_of",
    "text_columns",
    "wanted_columns",
]

_RENAMED = re.compile(r"(.+?)\s+as\s+(\S+)", re.IGNORECASE)
_PATH_KEYS = ("Norder", "Dir", "Npix")  # in the paths of a HATS catalog; readers make columns of them
_PADDING = "\0 \t"
_WHOLE = r"^[+-]?[0-9]+$"


def kept_columns(config: ManifestConfig) -> dict[str, str]:
    """Columns that the catalog keeps: name in the catalog to name in the manifest."""
    kept = {}
    for entry in config.keep_columns:
        renamed = _RENAMED.fullmatch(entry)
        kept[renamed[2] if renamed else entry] = renamed[1] if renamed else entry
    return kept


def check_kept(config: ManifestConfig) -> None:
    """Check that no kept column can be confused with a column of the catalog or another kept one.

    Raises:
        InputError: names the column.
    """
    kept = kept_columns(config)
    own = (*CATALOG_COLUMNS, IMAGE_URI_COLUMN) if config.keep_image_uri else CATALOG_COLUMNS
    check_kept_names(kept, [*(column.name for column in own), *_PATH_KEYS])
    for name in kept:
        if name.startswith(("p_", "_")):
            check_kept_names({name: kept[name]}, [name])
    if len({name.casefold() for name in kept}) < len(config.keep_columns):
        remedy = 'names a column twice (names that differ only in case count as one); rename one: "NAME as new_name"'
        raise InputError("manifest.keep_columns", list(config.keep_columns), remedy)


def check_kept_names(kept: Mapping[str, str], catalog: Iterable[str]) -> None:
    """Check the names of kept columns against those of the catalog; upper and lower case count as equal.

    Raises:
        InputError: names the column.
    """
    taken = {name.casefold(): name for name in catalog}
    for name, source in kept.items():
        if name.casefold() in taken:
            own = taken[name.casefold()]
            remedy = f'the catalog has a column or path key {own!r}; rename it: "{source} as survey_{name.lower()}"'
            raise InputError("manifest.keep_columns", name, remedy)


def check_columns(present: Sequence[str], config: ManifestConfig, file: str, optional: Iterable[str] = ()) -> None:
    """Check that a file has every column that the config names, once; `optional` ones may be absent.

    Raises:
        InputError: names the first column that is missing or ambiguous.
    """
    for key, names in _columns_by_setting(config).items():
        for name in names:
            if name not in optional and present.count(name) != 1:
                problem = "several columns of this name" if name in present else "no such column"
                raise InputError(f"manifest.{key}", name, f"{problem} in {file}; it has {', '.join(present)}")


def setting_of(column: str, config: ManifestConfig) -> str:
    """The setting that names a column, e.g. `manifest.ra_column`, for errors."""
    return next(
        (f"manifest.{key}" for key, names in _columns_by_setting(config).items() if column in names), "manifest"
    )


def _columns_by_setting(config: ManifestConfig) -> dict[str, list[str]]:
    columns: dict[str, list[str | None]] = {
        "id_column": [config.id_column],
        "ra_column": [config.ra_column],
        "dec_column": [config.dec_column],
        "image_column": [config.image_column],
        _template_setting(config): [*template_columns(config)],
        "tiles.size_column": [None if config.tiles is None else config.tiles.size_column],
        "keep_columns": [*kept_columns(config).values()],
    }
    own = {key: [name for name in names if name is not None] for key, names in columns.items()}
    if config.join is None:
        return own
    first = {key: [name for name in names if name not in config.join.columns] for key, names in own.items()}
    return {**first, "join.key_column": [config.join.key_column or config.id_column]}


def _template_setting(config: ManifestConfig) -> str:
    if config.tiles is not None:
        return "tiles.band_templates"
    return "band_templates" if config.band_templates else "uri_template"


def wanted_columns(config: ManifestConfig, with_image: bool = True) -> list[str]:
    """Names of the columns to read of the table, each once; without those that a second table has."""
    columns = _columns_by_setting(config)
    if not with_image:
        columns["image_column"] = []
    return list(dict.fromkeys(name for names in columns.values() for name in names))


def text_columns(config: ManifestConfig) -> list[str]:
    """Names of the columns whose spelling matters: ids, keys of a join, and parts of URIs."""
    keys = [config.id_column] if config.join is None else [config.id_column, config.join.key_column or config.id_column]
    return [*keys, *template_columns(config)]


def contains_images(schema: pa.Schema, config: ManifestConfig) -> bool:
    """Whether `image_column` contains the images, rather than their URIs.

    Raises:
        InputError: it contains neither.
    """
    if config.image_column is None or (config.join is not None and config.image_column in config.join.columns):
        return False
    if is_text(value_type(schema.field(config.image_column).type)):
        _check_no_bands(pa.string(), config)
        return False
    _check_image_type(schema.field(config.image_column).type, config)
    return True


def pipeline_columns(table: pa.Table, config: ManifestConfig, folder: str, with_bytes: bool) -> pa.Table:
    """`object_id`, `ra`, `dec`, `_healpix_29`, `_image_uri` or `_image_bytes`, and what is kept of each row.

    With tiles, `_side_arcsec`, and `_image_uri` only where the rows name their tiles. Without `with_bytes`, an image
    column that is not text is ignored and may be absent. Relative URIs are below `folder`.

    Raises:
        InputError: a column has an unsupported type or unit, or an id is null.
    """
    columns: dict[str, Any] = {"object_id": exact_ids(table[config.id_column], config)}
    ra, dec = usable_positions(*degrees(table, config))
    columns["ra"] = pa.array(ra, from_pandas=True)
    columns["dec"] = pa.array(dec, from_pandas=True)
    columns["_healpix_29"] = _healpix(ra, dec)
    image = config.image_column
    if config.tiles is not None:
        columns[SIDE_ARCSEC] = _sides_arcsec(table, config.tiles)
        if not config.tiles.are_listed:
            columns[IMAGE_URI] = image_uris(table, config, folder)
    elif config.lists_images:
        columns[IMAGE_URI] = table[IMAGE_URI]
    elif image is None or (image in table.column_names and is_text(table[image].type)):
        columns[IMAGE_URI] = image_uris(table, config, folder)
    elif with_bytes:
        columns |= _embedded(table[image], config, folder)
    if config.keep_image_uri:
        columns[IMAGE_URI_COLUMN.name] = published_locations(columns.get(IMAGE_URI), len(table))
    fields = [pa.field(name, column.type) for name, column in columns.items()]
    for name, source in kept_columns(config).items():
        columns[name] = table[source]
        metadata = table.schema.field(source).metadata or {}
        fields.append(pa.field(name, table[source].type, metadata={k: v for k, v in metadata.items() if k == INFERRED}))
    return pa.table(list(columns.values()), schema=pa.schema(fields))


def _sides_arcsec(table: pa.Table, tiles: TilesConfig) -> pa.Array:
    """The side of each row's cutout on the sky; nan where `size_column` has no number above 0."""
    if tiles.size_column is None:
        return pa.array(np.full(len(table), tiles.side_arcsec))
    column = plain(table[tiles.size_column])
    try:
        sizes = np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        remedy = f"of type {column.type}: numbers are needed"
        raise InputError("manifest.tiles.size_column", tiles.size_column, remedy) from None
    with np.errstate(invalid="ignore"):
        return pa.array(np.where((sizes > 0) & np.isfinite(sizes), sizes * tiles.size_factor, np.nan))


def exact_ids(column: pa.ChunkedArray, config: ManifestConfig) -> pa.ChunkedArray:
    """Identifiers as int64 or string, unchanged but for the padding of bytes.

    Raises:
        InputError: some are null or not whole numbers where those are asked for, or of a type that is not exact.
    """
    name = config.id_column
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0]) + 1
        raise InputError("manifest.id_column", name, f"{column.null_count} rows have no id (the first is row {row})")
    column = plain(column)
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return _integer_ids(column, name)
    if is_binary(kind):
        try:
            column = pc.utf8_rtrim(column.cast(pa.binary()).cast(pa.string()), _PADDING)
        except pa.ArrowInvalid:
            raise InputError("manifest.id_column", name, _CAST.format(kind=kind, way="hex(id)")) from None
    elif not is_text(kind):
        raise InputError("manifest.id_column", name, _CAST.format(kind=kind, way="cast(id as bigint)"))
    return _whole_numbers(column, name) if config.integer_ids else column.cast(pa.string())


_CAST = "ids of type {kind} are not exact: write them as integers or text, e.g. by {way} or cast(id as varchar) in SQL"


def _integer_ids(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        remedy = f"ids of type {column.type}, some of which do not fit int64: write them as text (cast(id as varchar))"
        raise InputError("manifest.id_column", name, remedy) from None


def _whole_numbers(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Text ids as int64."""
    texts = pc.utf8_trim(column.cast(pa.string()), _PADDING)
    try:
        if not pc.all(pc.match_substring_regex(texts, _WHOLE), min_count=0).as_py():
            raise pa.ArrowInvalid("not a whole number")
        return pc.utf8_ltrim(texts, "+").cast(pa.int64())
    except pa.ArrowInvalid:
        wrong = next(text for text in texts.to_pylist() if not _fits_int64(text))
        remedy = f"integer_ids is true, but {wrong!r} is not a whole number of 64 bits"
        raise InputError("manifest.id_column", name, remedy) from None


def _fits_int64(text: str) -> bool:
    return bool(re.fullmatch(_WHOLE, text)) and -(2**63) <= int(text) < 2**63


def column_hashes(column: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    """64-bit hash of each value, exact for integers whether or not some are null."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if (pa.types.is_integer(column.type) and not column.null_count) or pa.types.is_floating(column.type):
        return pd.util.hash_array(column.to_numpy())
    if not is_text(column.type):
        try:
            column = column.cast(pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # nested or binary values
            return pd.util.hash_array(np.array([repr(value) for value in column.to_pylist()], object))
    return pd.util.hash_array(column.fill_null("\0null").to_numpy().astype(object))


def _embedded(column: pa.ChunkedArray, config: ManifestConfig, folder: str) -> dict[str, Any]:
    """Images of a binary column, of `{bytes, path}` structs (Hugging Face), or as arrays of fluxes.

    The path is used where bytes is null; without either, there is no image.
    """
    _check_image_type(column.type, config)
    if is_flux(column.type):
        return {IMAGE_BYTES: fits_files(column, config.image_bands)}
    if not pa.types.is_struct(column.type):
        return {IMAGE_BYTES: column.cast(pa.large_binary())}
    content = pc.struct_field(column, "bytes").cast(pa.large_binary())
    if "path" not in _field_names(column.type):
        return {IMAGE_BYTES: content}
    path = pc.struct_field(column, "path").cast(pa.string())
    uris = image_uris(pa.table({"path": pc.if_else(content.is_null(), path, None)}), config, folder, column="path")
    neither = pc.and_(content.is_null(), path.is_null())
    return {IMAGE_BYTES: content, IMAGE_URI: pc.if_else(neither, NO_URI, uris)}


def _check_image_type(kind: pa.DataType, config: ManifestConfig) -> None:
    kind = value_type(kind)
    if is_flux(kind):
        return
    _check_no_bands(kind, config)
    if pa.types.is_struct(kind) and "bytes" in _field_names(kind):
        return
    if not is_binary(kind):
        needed = "must contain bytes, {bytes, path}, arrays as {band, flux}, or URIs"
        raise InputError("manifest.image_column", config.image_column, f"{needed}, not {kind}")


def _check_no_bands(kind: pa.DataType, config: ManifestConfig) -> None:
    if config.image_bands:
        remedy = f"only for an image_column of {{band, flux}} arrays; {config.image_column!r} is {kind}: leave it out"
        raise InputError("manifest.image_bands", list(config.image_bands), remedy)


def _field_names(kind: pa.DataType) -> list[str]:
    return [kind.field(i).name for i in range(kind.num_fields)]


def _healpix(ra: npt.NDArray[np.float64], dec: npt.NDArray[np.float64]) -> pa.Array:
    usable = ~np.isnan(ra)
    pixels = np.zeros(len(ra), np.int64)
    if usable.any():
        pixels[usable] = pixels_at(ra[usable], dec[usable])
    return pa.array(pixels, mask=~usable)
