"""Reading of Parquet, CSV, ECSV, FITS and VOTable files as Arrow tables."""

import posixpath
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from astropy.table import Column, MaskedColumn, Table

from galaxy_batch.errors import InputError
from galaxy_batch.storage.files import filesystem

__all__ = ["is_parquet", "manifest_files", "read_table"]

_ASTROPY_FORMATS = {
    ".ecsv": "ascii.ecsv",
    ".fits": "fits",
    ".fit": "fits",
    ".vot": "votable",
    ".votable": "votable",
    ".xml": "votable",
}
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_KNOWN = (".parquet", *_DELIMITERS, *_ASTROPY_FORMATS)


def is_parquet(uri: str) -> bool:
    """Whether the name ends in `.parquet`."""
    return uri.endswith(".parquet")


def manifest_files(uri: str) -> list[str]:
    """The files of a manifest, sorted: one file, the matches of a glob, or the Parquet files of a folder.

    Raises:
        InputError: there are none.
    """
    fs, path = filesystem(uri)
    if any(c in path for c in "*?["):
        files = sorted(fs.glob(path))
    elif fs.isdir(path):
        files = sorted(p for p in fs.find(path) if is_parquet(p) and not posixpath.basename(p).startswith(("_", ".")))
    else:
        files = [path] if fs.exists(path) else []
    if not files:
        raise InputError("manifest.uri", uri, "no such file, or a folder without Parquet files")
    return [str(fs.unstrip_protocol(p)) if "://" in uri else str(p) for p in files]


def read_table(uri: str, as_text: Iterable[str] = ()) -> pa.Table:
    """Read a whole table, in the format of the file's ending; `.gz` and `.bz2` are decompressed.

    Args:
        uri: a `.csv`, `.tsv`, `.ecsv`, `.fits`, `.vot`, `.xml` or `.parquet` file.
        as_text: columns of a CSV file to read as text. A column whose values are all plain integers of 64 bits
            becomes int64.

    Raises:
        InputError: no such file, an unknown ending, or a file of another format than its ending says.
    """
    fs, path = filesystem(uri)
    name = path.removesuffix(".gz").removesuffix(".bz2")
    ending = posixpath.splitext(name)[1].lower()
    if ending not in _KNOWN:
        raise InputError("manifest.uri", uri, f"unknown file ending; known endings: {', '.join(_KNOWN)}")
    try:
        with fs.open(path, "rb", compression="infer") as file:
            if ending == ".parquet":
                return pq.read_table(file)
            if ending in _DELIMITERS:
                return _read_delimited(file, _DELIMITERS[ending], tuple(as_text))
            return _from_astropy(Table.read(file, format=_ASTROPY_FORMATS[ending]))
    except FileNotFoundError:
        raise InputError("manifest.uri", uri, "no such file") from None
    except (pa.ArrowInvalid, ValueError, OSError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("manifest.uri", uri, f"cannot be read as a {ending} table: {error}") from None


def _read_delimited(file: Any, delimiter: str, as_text: tuple[str, ...]) -> pa.Table:
    table = pyarrow.csv.read_csv(
        file,
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={name: pa.string() for name in as_text}, strings_can_be_null=True
        ),
    )
    for name in as_text:
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, _integers_if_exact(table[name]))
    return table


def _integers_if_exact(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """int64 if every value keeps its spelling; `007`, `+5`, ` 5` and numbers above 2**63 - 1 stay text."""
    try:
        integers = column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column
    return integers if integers.cast(pa.string()).equals(column) else column


def _from_astropy(table: Table) -> pa.Table:
    return pa.table({name: _arrow_column(table[name]) for name in table.colnames})


def _arrow_column(column: Column) -> pa.Array:
    mask = np.ma.getmaskarray(column) if isinstance(column, MaskedColumn) else None
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
