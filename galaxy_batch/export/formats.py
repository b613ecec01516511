"""Encoding of tables as FITS, VOTable, CSV or Parquet, in memory.

The formats differ in what they can represent; ids are exact in all:

====================  =========================  ======================  ===================
in the catalog        FITS (binary table)        VOTable (BINARY2)       CSV
====================  =========================  ======================  ===================
64-bit integers       K                          long                    all digits
null integer          TNULLn                     null                    empty
null float            NaN                        null                    empty
null text             empty                      null                    empty; "" if empty
null boolean          0, neither T nor F         null                    empty
unit                  TUNITn                     unit                    (none)
UCD                   TUCDn                      ucd                     (none)
description           TCOMMn, comment of TTYPEn  DESCRIPTION             (none)
====================  =========================  ======================  ===================

TUCDn and TCOMMn are not in the FITS Standard (4.0, 2018), but TOPCAT and STILTS use them. astropy reads a
VOTable's null text as empty. Parquet has the types of the catalog, its nulls, and unit, UCD and description as metadata
of the fields.
"""

import io
import posixpath
import textwrap
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from astropy.io import fits

from galaxy_batch.catalog.votable import votable_file
from galaxy_batch.errors import InputError

__all__ = ["encode_table", "exportable_field", "format_of"]

_ENDINGS = {
    ".fits": "fits", ".fit": "fits", ".vot": "votable", ".votable": "votable", ".xml": "votable", ".csv": "csv",
    ".parquet": "parquet",
}  # fmt: skip
_FITS_FORMATS = {
    pa.bool_(): "L",
    pa.int16(): "I",
    pa.int32(): "J",
    pa.int64(): "K",
    pa.float32(): "E",
    pa.float64(): "D",
}
_WIDENED = {
    pa.int8(): pa.int16(), pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(),
    pa.float16(): pa.float32(),
}  # fmt: skip
_BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
_EXACT_IN_FITS = r"^([\x20-\x7e]*[\x21-\x7e])?$"  # printable ASCII; trailing blanks are not significant


def format_of(uri: str) -> str:
    """`fits`, `votable`, `csv` or `parquet`, by the file ending.

    Raises:
        InputError: the ending is unknown.
    """
    ending = posixpath.splitext(uri)[1].lower()
    if ending not in _ENDINGS:
        raise InputError("output_uri", uri, f"unknown file ending; use one of {', '.join(_ENDINGS)}")
    return _ENDINGS[ending]


def exportable_field(column: pa.Field, kind: str) -> pa.Field:
    """The column with a type that the format supports: boolean, integer, float or text, or any type in Parquet.

    Args:
        column: column of a catalog; kept columns of a survey may have any type.
        kind: result of `format_of`.

    Raises:
        InputError: the column holds lists, structs or bytes.
    """
    if column.type in _FITS_FORMATS or kind == "parquet":
        return column
    if column.type in _WIDENED:
        return column.with_type(_WIDENED[column.type])
    if pa.types.is_nested(column.type) or any(is_bytes(column.type) for is_bytes in _BYTES):
        raise InputError("columns", column.name, f"{kind} cannot hold {column.type}: list columns without this one")
    return column.with_type(pa.string())  # dates, decimals, unsigned 64-bit integers, with all digits


def encode_table(rows: pa.Table, kind: str, title: str, about: Mapping[str, str]) -> bytes:
    """Encode rows as the content of a file.

    Args:
        rows: columns with types from `exportable_field`, and `unit`, `ucd` and `description` in their metadata.
        kind: result of `format_of`.
        title: title of the table.
        about: metadata of the table, under names of at most eight letters.

    Raises:
        InputError: FITS cannot represent an id or a column name, or two names differ only in case.
    """
    if kind == "votable":
        return votable_file(rows, title, about)
    if kind == "fits":
        return _fits(rows, title, about)
    sink = io.BytesIO()
    if kind == "parquet":
        pq.write_table(rows.replace_schema_metadata({"title": title, **about}), sink, compression="zstd")
        return sink.getvalue()
    pyarrow.csv.write_csv(rows, sink)
    return sink.getvalue()


def _fits(rows: pa.Table, title: str, about: Mapping[str, str]) -> bytes:
    names = {name.lower(): name for name in rows.column_names}
    if len(names) < len(rows.column_names):
        twin = next(name for name in rows.column_names if names[name.lower()] != name)
        raise InputError(
            "columns",
            twin,
            f"FITS cannot distinguish it from {names[twin.lower()]}: list one of them only",
        )
    strange = [name for name in rows.column_names if not _is_plain(name)]
    if strange:
        raise InputError("columns", strange[0], "FITS names are limited to ASCII: write .vot or .csv")
    columns = [_fits_column(field, rows[field.name]) for field in rows.schema]
    table = fits.BinTableHDU.from_columns(columns, name="GALAXIES")
    raw = table.data.view(np.ndarray)
    for number, field in enumerate(rows.schema, start=1):
        if field.type == pa.bool_():
            raw[field.name][pc.is_null(rows[field.name]).to_numpy()] = 0
        _describe(table.header, number, field)
    table.header["RADESYS"] = ("ICRS", "of positions in the table")
    for name, value in {"title": title, **about}.items():
        table.header[name.upper()] = _ascii(value)
    sink = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(sink)
    return sink.getvalue()


def _fits_column(field: pa.Field, values: pa.ChunkedArray) -> fits.Column:
    unit = _ascii(_metadata(field, "unit")) or None
    if field.type == pa.string():
        texts = _fits_texts(field.name, values)
        return fits.Column(field.name, f"{max(1, texts.dtype.itemsize)}A", unit=unit, array=texts)
    null = _unused_integer(values) if pa.types.is_integer(field.type) and values.null_count else None
    empty = np.nan if pa.types.is_floating(field.type) else null or 0
    array = pc.fill_null(values, pa.scalar(empty).cast(field.type)).to_numpy()
    return fits.Column(field.name, _FITS_FORMATS[field.type], unit=unit, null=null, array=array)


def _unused_integer(values: pa.ChunkedArray) -> int:
    """The lowest integer of the type that is not among the values, to represent null."""
    taken = set(pc.unique(values).to_pylist()) if len(values) else set()
    candidate = int(np.iinfo(values.type.to_pandas_dtype()).min)
    while candidate in taken:
        candidate += 1
    return candidate


def _fits_texts(name: str, values: pa.ChunkedArray) -> npt.NDArray[np.bytes_]:
    """Text as printable ASCII, the only text in FITS: other text is escaped as in Python, other ids are refused."""
    texts = pc.fill_null(values, "")
    strange = pc.invert(pc.match_substring_regex(texts, _EXACT_IN_FITS))
    if pc.any(strange).as_py():
        if name == "object_id":
            example = texts.filter(strange)[0].as_py()
            raise InputError("output_uri", example, "FITS cannot hold this id exactly: write .vot or .csv")
        texts = pa.chunked_array([[_ascii(text) for text in texts.to_pylist()]], pa.string())
    return np.array(texts.cast(pa.binary()).to_pylist() or [b""], np.bytes_)[: len(values)]


def _describe(header: fits.Header, number: int, field: pa.Field) -> None:
    description, ucd = _ascii(_metadata(field, "description")), _metadata(field, "ucd")
    if description:
        room = 80 - len("TTYPE999= ") - max(20, len(field.name) + 2) - len(" / ")
        header.comments[f"TTYPE{number}"] = textwrap.shorten(description, max(room, 4), placeholder="...")
        header.set(f"TCOMM{number}", description, after=f"TFORM{number}")
    if ucd:
        header.set(f"TUCD{number}", _ascii(ucd), after=f"TFORM{number}")


def _metadata(field: pa.Field, key: str) -> str:
    value: bytes = (field.metadata or {}).get(key.encode(), b"")
    return value.decode("utf-8", "replace")


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _ascii(text: str) -> str:
    return text if _is_plain(text) else text.encode("unicode_escape").decode("ascii")
