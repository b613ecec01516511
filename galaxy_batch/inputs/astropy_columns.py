"""Columns of astropy tables as Arrow columns: only those that are wanted, each with its unit and frame."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy.table.serialize import represent_mixins_as_columns
from astropy.utils.data_info import serialize_context_as

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.columns import setting_of
from galaxy_batch.inputs.positions import declare, frame_name

__all__ = ["arrow_table", "declared_frames", "simple_columns"]

_SERIALIZED = "__serialized_columns__"


def simple_columns(table: Table) -> Table:
    """The table with coordinates, times and the like as columns of numbers and text, as ECSV stores them."""
    if not table.has_mixin_columns:
        return table
    frames = {
        name: frame_name(column.frame.name, getattr(column.frame, "equinox", None))
        for name, column in table.columns.items()
        if isinstance(column, SkyCoord)
    }
    with serialize_context_as("ecsv"):
        simple = represent_mixins_as_columns(table)
    for name in simple.colnames:
        if frame := frames.get(name.rpartition(".")[0]):
            simple[name].info.meta = {**(simple[name].info.meta or {}), "frame": frame}
    return simple


def declared_frames(meta: Mapping[str, Any]) -> Callable[[str], str]:
    """The frame that a table's metadata declares for a column: of its SkyCoord, else RADESYS and EQUINOX."""
    upper = {str(key).upper(): value for key, value in meta.items()}
    whole = frame_name(upper.get("RADESYS", upper.get("RADECSYS")), upper.get("EQUINOX"))
    objects = meta.get(_SERIALIZED) or {}
    own = {
        name: frame_name(about.get("frame"), about.get("equinox"))
        for name, about in objects.items()
        if isinstance(about, Mapping)
    }
    return lambda name: own.get(name.rpartition(".")[0]) or whole


def arrow_table(
    columns: Mapping[str, Any],
    meta: Mapping[str, Any],
    declared: Mapping[str, Mapping[str, Any]],
    config: ManifestConfig,
) -> pa.Table:
    """Columns of astropy as Arrow columns.

    Args:
        columns: the wanted ones, by name.
        meta: of their table; may declare the frame.
        declared: what the file declares of its columns besides, e.g. their UCDs.
        config: the settings that name the columns, for errors.

    Raises:
        InputError: a column cannot be converted.
    """
    frame_of = declared_frames(meta)
    fields, arrays = [], []
    for name, column in columns.items():
        try:
            array = _arrow_column(column)
        except (pa.ArrowException, TypeError, ValueError) as error:
            kind, reason = getattr(column, "dtype", type(column).__name__), str(error).splitlines()[0]
            remedy = f"a column of type {kind} cannot be used: {reason}"
            raise InputError(setting_of(name, config), name, remedy) from None
        own = {"unit": column.unit, "frame": (column.info.meta or {}).get("frame") or frame_of(name)}
        fields.append(declare(declare(pa.field(name, array.type), own), declared.get(name, {})))
        arrays.append(array)
    return pa.table(arrays, schema=pa.schema(fields))


def _arrow_column(column: Any) -> pa.Array:
    mask = np.ma.getmaskarray(column) if hasattr(column, "mask") else None
    values = np.asarray(column)
    if values.ndim > 1:
        return pa.array(values.tolist())
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    if values.dtype.kind == "U":
        values = np.char.strip(values).astype(object)
    elif values.dtype.kind != "O":
        values = values.astype(values.dtype.newbyteorder("="))  # FITS is big-endian, Arrow little-endian
    return pa.array(values, mask=mask)
