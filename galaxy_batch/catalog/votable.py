"""VOTable headers in Parquet files, as in the IVOA Note "Parquet in the VO" 1.0, and VOTable files.

A header (VOTable 1.4, Ochsenbein et al. 2019) has no data, and a FIELD for each column with its type, unit, UCD and
description. TOPCAT and `astropy.table.Table.read(…, format="parquet.votable")` read it.

astropy 8 has two requirements for text columns. Nulls need a metadata key of its own with the length of the texts; 0
lets astropy measure it. And FIELDs need a maximum length, as in `arraysize="12*"`, so each file's header has the
lengths of its own texts. astropy then reads a null text as "None", and integers with nulls as floats; ids have none.
"""

import io
import re
import warnings
from collections.abc import Mapping
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.compute as pc
from astropy.io.votable.exceptions import VOWarning
from astropy.io.votable.tree import CooSys, Field, Info, Resource, TableElement, VOTableFile

__all__ = ["CONTENT_KEY", "VERSION_KEY", "described", "fields_of", "text_lengths", "votable_file", "votable_header"]

VERSION_KEY = b"IVOA.VOTable-Parquet.version"
CONTENT_KEY = b"IVOA.VOTable-Parquet.content"
_VERSION = b"1.0"
_TEXT_LENGTH_KEY = "table::len::{}"
_COORDINATES = "ICRS"
_NUMBERS = {
    pa.bool_(): "boolean",
    pa.uint8(): "unsignedByte",
    pa.int8(): "short",
    pa.int16(): "short",
    pa.uint16(): "int",
    pa.int32(): "int",
    pa.uint32(): "long",
    pa.int64(): "long",
    pa.float16(): "float",
    pa.float32(): "float",
    pa.float64(): "double",
}


def described(
    schema: pa.Schema, title: str, about: Mapping[str, str], lengths: Mapping[str, int] | None = None
) -> pa.Schema:
    """The schema with the VOTable header in its metadata, as it is written into Parquet files; see `votable_header`."""
    metadata = {VERSION_KEY: _VERSION, CONTENT_KEY: votable_header(schema, title, about, lengths or {})}
    metadata |= {_TEXT_LENGTH_KEY.format(field.name).encode(): b"0" for field in schema if _is_text(field.type)}
    return schema.with_metadata(metadata)


def votable_header(schema: pa.Schema, title: str, about: Mapping[str, str], lengths: Mapping[str, int]) -> bytes:
    """A VOTable without data, in UTF-8; equal arguments give equal bytes.

    Args:
        schema: columns, with `unit`, `ucd` and `description` in the metadata of their fields, as `rows` has them.
        title: description of the table.
        about: facts about the whole table, one INFO each.
        lengths: maximum number of characters of text columns; unbounded for columns that are not given.
    """
    return _document(schema, title, about, lengths, rows=None)


def votable_file(rows: pa.Table, title: str, about: Mapping[str, str]) -> bytes:
    """A VOTable with data in BINARY2, which keeps nulls of every type and exact integers.

    Args:
        rows: columns of booleans, numbers and text, with `unit`, `ucd` and `description` in their fields' metadata.
        title: description of the table.
        about: facts about the whole table, one INFO each.
    """
    return _document(rows.schema, title, about, text_lengths(rows), rows)


def _document(
    schema: pa.Schema, title: str, about: Mapping[str, str], lengths: Mapping[str, int], rows: pa.Table | None
) -> bytes:
    document = VOTableFile(version="1.4")
    resource = Resource()
    document.resources.append(resource)
    resource.coordinate_systems.append(CooSys(ID=_COORDINATES, system=_COORDINATES))
    for name, value in about.items():
        resource.infos.append(Info(ID=f"about_{name}", name=name, value=value))  # a column may have the same name
    table = TableElement(document, name="galaxies")
    resource.tables.append(table)
    table.description = title
    sink = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VOWarning)  # the unit of a kept column is the survey's, valid or not
        for number, column in enumerate(schema):
            table.fields.append(_field(document, number, column, lengths.get(column.name)))
        if rows is not None:
            table.create_arrays(len(rows))
            table.format = "binary2"
            for name, values in zip(table.array.dtype.names, rows.columns, strict=True):
                empty = pa.scalar("" if _is_text(values.type) else 0).cast(values.type)
                table.array.data[name] = pc.fill_null(values, empty).to_numpy()
                table.array.mask[name] = pc.is_null(values).to_numpy()
        document.to_xml(sink)
    content = _plain(sink.getvalue())
    if rows is not None and not len(rows):  # astropy then writes no DATA, and TOPCAT finds no table
        content = content.replace(b"</TABLE>", b"<DATA><TABLEDATA></TABLEDATA></DATA></TABLE>")
    return content


def text_lengths(rows: pa.Table) -> dict[str, int]:
    """Number of characters of the longest text in each text column, at least 4."""
    names = [field.name for field in rows.schema if _is_text(field.type)]
    return {name: max(4, pc.max(pc.utf8_length(rows[name])).as_py() or 0) for name in names}


def fields_of(header: bytes) -> list[dict[str, str]]:
    """For each FIELD of a header its `name`, `datatype`, and where given `arraysize`, `unit`, `ucd`, `description`.

    Raises:
        ValueError: the header is not a VOTable.
    """
    try:
        root = ElementTree.fromstring(header)  # noqa: S314 - expat loads nothing from outside, and bounds expansion
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML: {error}") from None
    space, _, name = root.tag.rpartition("}")
    table = next(root.iter(f"{space}}}TABLE"), None)
    if name != "VOTABLE" or table is None:
        raise ValueError(f"not a VOTable with a table, but {name}")
    fields = []
    for field in table.iter(f"{space}}}FIELD"):
        description = (field.findtext(f"{space}}}DESCRIPTION") or "").strip()
        known = {key: value for key, value in field.attrib.items() if key not in ("ID", "ref")}
        fields.append(known | ({"description": description} if description else {}))
    return fields


def _field(document: VOTableFile, number: int, column: pa.Field, length: int | None) -> Field:
    metadata = column.metadata or {}
    unit, ucd, description = (
        metadata[key].decode("utf-8", "replace") if key in metadata else None
        for key in (b"unit", b"ucd", b"description")
    )
    kind = _type(column.type) | ({"arraysize": f"{length}*"} if length else {})
    name = column.name if re.fullmatch(r"[A-Za-z_][\w.-]*", column.name, re.ASCII) else f"column_{number}"
    field = Field(document, ID=name, name=column.name, unit=unit, ucd=ucd, **kind)
    if ucd and ucd.startswith("pos.eq."):
        field.ref = _COORDINATES
    field.description = description
    return field


def _type(kind: pa.DataType) -> dict[str, str]:
    """The VOTable type of an Arrow type; text for types without an equivalent, as the Note says."""
    if kind in _NUMBERS:
        return {"datatype": _NUMBERS[kind]}
    if pa.types.is_list(kind) and kind.value_type in _NUMBERS:
        return {"datatype": _NUMBERS[kind.value_type], "arraysize": "*"}
    if pa.types.is_fixed_size_list(kind) and kind.value_type in _NUMBERS:
        return {"datatype": _NUMBERS[kind.value_type], "arraysize": str(kind.list_size)}
    return {"datatype": "unicodeChar" if _is_text(kind) else "char", "arraysize": "*"}


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _plain(document: bytes) -> bytes:
    """The document without line breaks in descriptions and without the comment that names astropy's version."""
    document = re.sub(rb"<!--.*?-->\s*", b"", document, count=1, flags=re.DOTALL)
    return re.sub(
        rb"<DESCRIPTION>(.*?)</DESCRIPTION>",
        lambda match: b"<DESCRIPTION>" + b" ".join(match[1].split()) + b"</DESCRIPTION>",
        document,
        flags=re.DOTALL,
    )
