"""Each format, read back with astropy and with TOPCAT's library."""

import csv
import io
import shutil
import subprocess
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.io.votable import parse_single_table
from astropy.table import Table

from galaxy_batch.errors import InputError
from galaxy_batch.export.formats import encode_table, exportable_field, format_of
from galaxy_batch.rows import CATALOG_COLUMNS, catalog_schema
from tests.support.skies import CLASSES, sky_rows

COUNT = 400
ABOUT = {
    "release": "dr7",
    "model_id": "abc",
    "where": "confidence > 0.5 and predicted_class = 'smooth' or error is null",
}
KEPT = [
    pa.field(
        "z", pa.float32(), metadata={"unit": "km / s", "description": "velocité < c", "ucd": "spect.dopplerVeloc"}
    ),
    pa.field("count", pa.int16()),
    pa.field("barred", pa.bool_()),
    pa.field("note", pa.string()),
    pa.field("big", pa.uint64()),
    pa.field("small", pa.uint8()),
    pa.field("half", pa.float16()),
    pa.field("seen", pa.date32()),
    pa.field("price", pa.decimal128(20, 3)),
]
SCHEMA = catalog_schema(pa.int64(), CLASSES, KEPT)


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    """All columns of a catalog and kept ones, with nulls of every type and the lowest integers among the values."""
    rng = np.random.default_rng(2)
    rows = sky_rows(COUNT, seed=2, without_position=0.1)
    hashes = rows["image_hash"].to_pylist()
    hashes[:3] = [-(2**63), None, -(2**63) + 1]
    rows = rows.set_column(rows.column_names.index("image_hash"), "image_hash", pa.array(hashes, pa.int64()))
    made: dict[str, list[Any]] = {
        "release": ["dr7"] * COUNT,
        "model_id": ["abc"] * COUNT,
        "z": [float("nan"), *rng.random(COUNT - 1).tolist()],
        "count": rng.integers(-(2**15), -(2**15) + 3, COUNT).tolist(),
        "barred": (rng.random(COUNT) < 0.5).tolist(),
        "note": ["", 'a "b", c', "nö\nline", *("x" * (n % 7) for n in range(COUNT - 3))],
        "big": [2**64 - 1 - n for n in range(COUNT)],
        "small": [n % 256 for n in range(COUNT)],
        "half": [np.float16(n / 8) for n in range(COUNT)],
        "seen": [date(2020, 1, 1 + n % 28) for n in range(COUNT)],
        "price": [Decimal(n) / 8 for n in range(COUNT)],
    }
    columns = []
    for field in SCHEMA:
        values = rows[field.name].to_pylist() if field.name in rows.column_names else made[field.name]
        if field in KEPT:
            values = [None if n % 5 == 4 else value for n, value in enumerate(values)]
        columns.append(pa.array(values, field.type))
    return pa.table(columns, schema=SCHEMA)


def exchanged(rows: pa.Table, kind: str) -> pa.Table:
    wanted = pa.schema([exportable_field(column, kind) for column in rows.schema])
    return pa.table([rows[column.name].cast(column.type) for column in wanted], schema=wanted)


def as_lists(table: pa.Table) -> dict[str, list[Any]]:
    """Python values with None for NaN, so that lists compare equal."""
    floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    values = table.to_pydict()
    return values | {name: [None if v is None or v != v else v for v in values[name]] for name in floats}


def test_file_endings() -> None:
    formats = {name: format_of(f"s3://bucket/a.b/{name}") for name in ("x.fits", "x.FIT", "x.vot", "x.xml", "x.csv")}
    assert formats == {"x.fits": "fits", "x.FIT": "fits", "x.vot": "votable", "x.xml": "votable", "x.csv": "csv"}
    for name in ("x.xlsx", "x", "csv"):
        with pytest.raises(InputError, match=r"unknown file ending; use one of \.fits, "):
            format_of(name)


@pytest.mark.parametrize("kind", [pa.list_(pa.int32()), pa.struct([("a", pa.int8())]), pa.binary(), pa.large_binary()])
def test_unsupported_types_are_input_errors(kind: pa.DataType) -> None:
    with pytest.raises(InputError, match=r"columns = 'flux': fits cannot hold .*: list columns without this one"):
        exportable_field(pa.field("flux", kind), "fits")


def test_types_are_kept_or_widened_and_metadata_kept() -> None:
    fields = {column.name: exportable_field(column, "csv") for column in SCHEMA}
    assert str(fields["object_id"].type) == "int64"
    assert str(fields["review_flags"].type) == "int32"
    assert [str(fields[name].type) for name in ("big", "small", "half", "seen")] == [
        "string",
        "int16",
        "float",
        "string",
    ]
    assert fields["z"].metadata == SCHEMA.field("z").metadata


def test_fits_keeps_every_value(rows: pa.Table) -> None:
    given = exchanged(rows, "fits")
    content = encode_table(given, "fits", "Galaxies", ABOUT)
    with fits.open(io.BytesIO(content), logical_as_bytes=True) as file:
        data, formats = file[1].data, dict(zip(file[1].columns.names, file[1].columns.formats, strict=True))
        nulls = {column.name: column.null for column in file[1].columns}
        wanted = as_lists(given)
        for field in given.schema:
            values = data[field.name].tolist()
            if pa.types.is_integer(field.type) and nulls[field.name] is not None:
                values = [None if value == nulls[field.name] else value for value in values]
            elif pa.types.is_floating(field.type):
                values = [None if value != value else value for value in values]
            expected = wanted[field.name]
            if field.type == pa.bool_():
                expected = [{True: b"T", False: b"F", None: b""}[value] for value in expected]
            elif field.type == pa.string():
                expected = [("" if v is None else v).replace("nö\nline", "n\\xf6\\nline") for v in expected]
            assert values == expected, field.name
    assert formats["object_id"] == formats["image_hash"] == "K"
    assert (formats["ra"], formats["confidence"], formats["review_flags"], formats["count"]) == ("D", "E", "J", "I")
    assert nulls["object_id"] is None, "ids have no nulls"
    assert nulls["image_hash"] == -(2**63) + 2, "the lowest that is no value"


@pytest.mark.filterwarnings("ignore:Column 'barred' contains NULL")
def test_fits_keeps_units_ucds_and_descriptions(rows: pa.Table) -> None:
    content = encode_table(exchanged(rows, "fits"), "fits", "Galaxies", ABOUT)
    assert fits.open(io.BytesIO(content)).verify("exception") is None
    header = fits.getheader(io.BytesIO(content), 1)
    assert header["EXTNAME"] == "GALAXIES"
    assert header["RADESYS"] == "ICRS"
    assert (header["TITLE"], header["RELEASE"], header["MODEL_ID"]) == ("Galaxies", "dr7", "abc")
    assert header["WHERE"] == ABOUT["where"]
    numbers = {header[f"TTYPE{n}"]: n for n in range(1, header["TFIELDS"] + 1)}
    for column in CATALOG_COLUMNS:
        number = numbers[column.name]
        assert header[f"TCOMM{number}"] == column.description
        assert header[f"TUCD{number}"] == column.ucd
        assert header.get(f"TUNIT{number}", "") == column.unit
        comment = header.comments[f"TTYPE{number}"]
        assert column.description.startswith(comment.removesuffix("...").rstrip())
        assert len(comment) >= min(20, len(column.description))
    assert header[f"TCOMM{numbers['z']}"] == "velocit\\xe9 < c"
    assert header[f"TUNIT{numbers['z']}"] == "km / s"
    table = Table.read(io.BytesIO(content), format="fits")
    assert table["ra"].unit == u.deg
    assert table["image_hash"].mask.sum() == rows["image_hash"].null_count


def test_a_votable_keeps_every_value_and_null(rows: pa.Table) -> None:
    given = exchanged(rows, "votable")
    table = parse_single_table(io.BytesIO(encode_table(given, "votable", "Galaxies", ABOUT)), verify="exception")
    assert table.description == "Galaxies"
    wanted = as_lists(given)
    for field, column in zip(given.schema, table.fields, strict=True):
        values, missing = table.array[field.name].data.tolist(), table.array[field.name].mask.tolist()
        values = [None if gone or value != value else value for value, gone in zip(values, missing, strict=True)]
        expected = wanted[field.name]
        if field.type == pa.string():  # astropy reads an empty text for a null
            expected = [value or "" for value in expected]
        assert values == expected, field.name
        known = {"unit": str(column.unit or ""), "ucd": column.ucd or "", "description": column.description or ""}
        metadata = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        assert {key: value for key, value in known.items() if value} == {
            key: u.Unit(value).to_string() if key == "unit" else value for key, value in metadata.items()
        }
    assert [f.datatype for f in table.fields if f.name in ("object_id", "image_hash", "_healpix_29")] == ["long"] * 3


def test_csv_has_every_digit(rows: pa.Table) -> None:
    given = exchanged(rows, "csv")
    content = encode_table(given, "csv", "Galaxies", ABOUT)
    header, *lines = csv.reader(io.StringIO(content.decode()))
    assert header == rows.column_names
    parsers = {pa.bool_(): lambda text: text == "true", pa.string(): str, pa.float32(): np.float32, pa.float64(): float}
    for number, field in enumerate(given.schema):
        actual = [parsers.get(field.type, int)(line[number]) if line[number] else None for line in lines]
        expected = given[field.name].to_pylist()
        if field.type == pa.string():
            expected = [value or None for value in expected]
        elif pa.types.is_floating(field.type):
            actual, expected = (
                [None if v is None or v != v else float(v) for v in values] for values in (actual, expected)
            )
        assert actual == expected, field.name


def test_text_ids_are_exact_or_refused(rows: pa.Table) -> None:
    for ids, possible in ((["007", "a b"], True), (["007", "é"], False), (["007", "a "], False)):
        table = pa.table({"object_id": ids, "ra": [1.0, 2.0]})
        for kind in ("votable", "csv", "fits"):
            if kind == "fits" and not possible:
                with pytest.raises(InputError, match="FITS cannot hold this id exactly"):
                    encode_table(table, kind, "", {})
                continue
            content = encode_table(table, kind, "", {})
            if kind == "csv":
                assert [line[0] for line in csv.reader(io.StringIO(content.decode()))] == ["object_id", *ids]
            elif kind == "fits":
                assert fits.getdata(io.BytesIO(content), 1)["object_id"].tolist() == ids
            else:
                assert parse_single_table(io.BytesIO(content)).array["object_id"].tolist() == ids


def test_names_that_fits_cannot_represent_are_refused() -> None:
    with pytest.raises(InputError, match=r"FITS cannot distinguish it from [zZ]"):
        encode_table(pa.table({"z": [1], "Z": [2]}), "fits", "", {})
    with pytest.raises(InputError, match="FITS names are limited to ASCII"):
        encode_table(pa.table({"größe": [1]}), "fits", "", {})
    assert parse_single_table(io.BytesIO(encode_table(pa.table({"z": [1], "Z": [2], "größe": [3]}), "votable", "", {})))


@pytest.mark.parametrize("kind", ["fits", "votable", "csv"])
def test_tables_without_rows_can_be_written(rows: pa.Table, kind: str) -> None:
    content = encode_table(exchanged(rows, kind).slice(0, 0), kind, "Galaxies", ABOUT)
    if kind == "csv":
        assert content.decode().strip().replace('"', "").split(",") == rows.column_names
    else:
        table = Table.read(io.BytesIO(content), format=kind)
        assert (table.colnames, len(table)) == (rows.column_names, 0)


def stilts(*arguments: str) -> str:
    """Output of STILTS, the command line of TOPCAT."""
    if shutil.which("stilts") is None:
        pytest.skip("stilts is not installed: apt-get install stilts")
    done = subprocess.run(["stilts", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("kind", "ending"), [("fits", "fits"), ("votable", "vot"), ("csv", "csv")])
def test_topcat_reads_the_same(rows: pa.Table, kind: str, ending: str, tmp_path: Path) -> None:
    given = exchanged(rows, kind)
    file, other = tmp_path / f"rows.{ending}", tmp_path / "seen.vot"
    file.write_bytes(encode_table(given, kind, "Galaxies", ABOUT))
    if kind == "votable":
        assert stilts("votlint", f"votable={file}") == ""
    # without the note: what STILTS writes of its letters astropy does not read
    stilts(
        "tpipe",
        f"in={file}",
        f"ifmt={kind}",
        "cmd=delcols note",
        f"out={other}",
        "ofmt=votable(format=BINARY2,version=V14)",
    )
    seen = parse_single_table(str(other))
    kinds = dict(
        zip((f.name for f in seen.fields), ((f.datatype, f.ucd, f.description) for f in seen.fields), strict=True)
    )
    for name in ("object_id", "image_hash", "_healpix_29"):
        assert kinds[name][0] == "long"
        values = seen.array[name]
        missing = np.ma.getmaskarray(values)
        actual = [None if gone else value for value, gone in zip(values.data.tolist(), missing.tolist(), strict=True)]
        assert actual == given[name].to_pylist()
    assert seen.array["confidence"].filled(np.nan).astype(np.float32).tolist() == pytest.approx(
        pc.fill_null(given["confidence"], float("nan")).to_pylist(), abs=0, nan_ok=True
    )
    assert [text or None for text in seen.array["predicted_class"].filled("").tolist()] == given[
        "predicted_class"
    ].to_pylist()
    if kind != "csv":
        for column in CATALOG_COLUMNS:
            assert kinds[column.name][1:] == (column.ucd, column.description)
        assert str(next(f.unit for f in seen.fields if f.name == "ra")) == "deg"
