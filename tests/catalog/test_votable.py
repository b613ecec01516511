"""What astropy reads back from a file, and what the header says."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.io.votable import parse, ucd
from astropy.table import Table

from galaxy_batch.catalog.votable import CONTENT_KEY, VERSION_KEY, described, fields_of, text_lengths, votable_header
from galaxy_batch.rows import CATALOG_COLUMNS, catalog_schema
from tests.support.skies import CLASSES, sky_rows

KEPT = [
    pa.field("z", pa.float32()),
    pa.field("survey note", pa.string()),
    pa.field("flux", pa.list_(pa.float64()), metadata={"unit": "nmgy", "description": "u & g < r"}),
    pa.field("seen", pa.timestamp("us")),
    pa.field("band", pa.dictionary(pa.int32(), pa.string())),
]
SCHEMA = catalog_schema(pa.int64(), CLASSES, KEPT)


def file_of(rows: pa.Table, path: Path, schema: pa.Schema) -> Path:
    table = pa.table([rows[column.name].cast(column.type) for column in schema], schema=schema)
    table = table.cast(described(schema, "Galaxies", {"release": "dr7"}, text_lengths(table)))
    pq.write_table(table, path, compression="zstd")
    return path


@pytest.fixture
def rows() -> pa.Table:
    rows = sky_rows(500, seed=1, without_position=0.1)
    return rows.append_column("release", pa.array(["dr7"] * 500)).append_column("model_id", pa.array(["abc"] * 500))


def test_astropy_reads_units_ucds_descriptions_and_exact_ids(rows: pa.Table, tmp_path: Path) -> None:
    path = file_of(rows, tmp_path / "galaxies.parquet", catalog_schema(pa.int64(), CLASSES))
    table = Table.read(path, format="parquet.votable")
    assert table.colnames == catalog_schema(pa.int64(), CLASSES).names
    assert table["object_id"].dtype == np.int64
    assert table["object_id"].tolist() == rows["object_id"].to_pylist()
    for column in CATALOG_COLUMNS:
        assert table[column.name].unit == (u.Unit(column.unit) if column.unit else None)
        assert table[column.name].description == column.description
        assert table[column.name].meta["ucd"] == column.ucd
    assert table["p_smooth"].description == "Calibrated probability of class smooth"
    assert table.meta["description"] == "Galaxies"
    texts = {name: [text or "None" for text in rows[name].to_pylist()] for name in ("predicted_class", "error")}
    assert {name: table[name].tolist() for name in texts} == texts


def test_astropy_reads_files_without_a_null_or_of_nothing_else(rows: pa.Table, tmp_path: Path) -> None:
    schema = catalog_schema(pa.int64(), CLASSES)
    for status in ("ok", "missing"):
        chosen = rows.filter(pa.compute.equal(rows["status"], status))
        table = Table.read(file_of(chosen, tmp_path / "x.parquet", schema), format="parquet.votable")
        assert table["status"].tolist() == [status] * len(chosen)
        assert table["object_id"].tolist() == chosen["object_id"].to_pylist()
        if status == "ok":
            assert table["image_hash"].dtype == np.int64
            assert table["image_hash"].tolist() == chosen["image_hash"].to_pylist()


def test_plain_parquet_readers_see_text(rows: pa.Table, tmp_path: Path) -> None:
    import duckdb
    import pandas as pd

    path = file_of(rows, tmp_path / "galaxies.parquet", catalog_schema(pa.int64(), CLASSES))
    wanted = rows["predicted_class"].to_pylist()
    assert duckdb.sql(f"SELECT predicted_class FROM '{path}'").fetchall() == [(text,) for text in wanted]
    assert pd.read_parquet(path)["predicted_class"].astype(object).where(lambda s: s.notna(), None).tolist() == wanted
    plain = Table.read(path, format="parquet")
    assert plain["object_id"].tolist() == rows["object_id"].to_pylist()


def test_each_file_has_the_bounds_of_its_own_texts(rows: pa.Table, tmp_path: Path) -> None:
    path = file_of(rows, tmp_path / "galaxies.parquet", catalog_schema(pa.int64(), CLASSES))
    metadata = pq.read_metadata(path).metadata
    assert metadata[VERSION_KEY] == b"1.0"
    sizes = {field["name"]: field.get("arraysize") for field in fields_of(metadata[CONTENT_KEY])}
    assert sizes["predicted_class"] == "8*"
    assert sizes["status"] == "7*"
    assert sizes["error"] == "12*"
    assert sizes["release"] == "4*"  # room for "None"
    assert sizes["ra"] is None


def test_the_header_describes_kept_columns_too() -> None:
    fields = {field["name"]: field for field in fields_of(votable_header(SCHEMA, "t", {}, {}))}
    assert fields["z"] == {"name": "z", "datatype": "float"}
    assert fields["survey note"] == {"name": "survey note", "datatype": "unicodeChar", "arraysize": "*"}
    assert fields["flux"] == {
        "name": "flux", "datatype": "double", "arraysize": "*", "unit": "nmgy", "description": "u & g < r",
    }  # fmt: skip
    assert fields["seen"]["datatype"] == "char"
    assert fields["band"]["datatype"] == "unicodeChar"


def test_the_header_is_a_votable_that_astropy_has_nothing_against() -> None:
    header = votable_header(catalog_schema(pa.string(), CLASSES), "Galaxies & <stars>", {"release": "dr7"}, {})
    document = parse(io.BytesIO(header), verify="exception")
    assert document.version == "1.4"
    assert [(info.name, info.value) for info in document.resources[0].infos] == [("release", "dr7")]
    assert document.resources[0].coordinate_systems[0].system == "ICRS"
    table = document.get_first_table()
    assert table.description == "Galaxies & <stars>"
    assert {field.name for field in table.fields if field.ref == "ICRS"} == {"ra", "dec"}
    assert b"<DATA" not in header
    assert b"<!--" not in header


def test_ucds_are_words_of_the_vocabulary() -> None:
    for column in CATALOG_COLUMNS:
        assert ucd.parse_ucd(column.ucd, check_controlled_vocabulary=True)


@pytest.mark.parametrize("header", [b"", b"<a", b"<a/>", b"<VOTABLE/>", b"\xff\xfe"])
def test_what_is_no_header_is_said(header: bytes) -> None:
    with pytest.raises(ValueError, match="not "):
        fields_of(header)


@pytest.mark.parametrize("metadata", [{"unit": "furlong/fort night"}, {"ucd": "!"}, {b"unit": b"\xff"}])
def test_odd_metadata_of_a_kept_column_is_no_error(metadata: Any) -> None:
    (field,) = fields_of(votable_header(pa.schema([pa.field("a b", pa.int8(), metadata=metadata)]), "", {}, {}))
    assert (field["name"], field["datatype"]) == ("a b", "short")
