from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.manifest import find_objects, open_manifest, read_chunk, read_objects
from tests.support.manifests import manifest_config, manifest_rows

BIG = 1237648720693755918


def objects(rows: int = 10) -> dict[str, Any]:
    return {
        "objid": np.arange(rows) + BIG,
        "ra": np.linspace(0, 359, rows),
        "dec": np.linspace(-90, 90, rows),
        "mag": np.linspace(14, 17, rows).astype(np.float32),
    }


@pytest.fixture(params=["csv", "fits", "ecsv", "parquet", "folder"])
def manifest(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    form = request.param
    if form == "csv":
        Table(objects()).write(tmp_path / "t.csv", format="ascii.csv")
    elif form in ("fits", "ecsv"):
        Table(objects()).write(tmp_path / f"t.{form}", format="ascii.ecsv" if form == "ecsv" else form)
    elif form == "parquet":
        pq.write_table(pa.table(objects()), tmp_path / "t.parquet", row_group_size=3)
    else:
        (tmp_path / "t").mkdir()
        whole = pa.table(objects())
        pq.write_table(whole.slice(0, 4), tmp_path / "t" / "0.parquet", row_group_size=4)
        pq.write_table(whole.slice(4), tmp_path / "t" / "1.parquet", row_group_size=2)
        return tmp_path / "t"
    return tmp_path / f"t.{form}"


@pytest.mark.parametrize("chunk_rows", [1, 3, 4, 100])
def test_every_format_gives_every_row_once_in_order(manifest: Path, chunk_rows: int) -> None:
    config = manifest_config(manifest, keep_columns=("mag",))
    opened = open_manifest(config, chunk_rows)
    rows = manifest_rows(config, chunk_rows)
    assert rows["object_id"].to_pylist() == [BIG + i for i in range(10)]
    assert rows["mag"].to_pylist() == pytest.approx(objects()["mag"].tolist())
    assert max(chunk.rows for chunk in opened.chunks) <= chunk_rows
    assert [chunk.index for chunk in opened.chunks] == list(range(len(opened.chunks)))
    assert (opened.rows, opened.with_position, opened.id_type) == (10, 10, pa.int64())
    folder = manifest if manifest.is_dir() else manifest.parent
    assert rows["_image_uri"][3].as_py() == f"{folder}/{BIG + 3}.jpg"


def test_find_objects_reads_the_given_ids_from_every_format(manifest: Path) -> None:
    config = manifest_config(manifest)
    rows = {row["object_id"]: row for row in manifest_rows(config, 100).drop_columns(["_chunk"]).to_pylist()}
    wanted = [BIG + 7, BIG + 1, BIG + 4]
    objects_read = find_objects(config, pa.array([*wanted, 5])).to_pylist()
    assert sorted(row["object_id"] for row in objects_read) == sorted(wanted)
    assert all(row == rows[row["object_id"]] for row in objects_read)
    assert find_objects(config, pa.array([5, 6])).num_rows == 0
    bands = manifest_config(
        manifest, uri_template=None, band_templates=["{objid}-i.fits", "{objid}-r.fits", "{objid}-g.fits"]
    )
    assert len(find_objects(bands, pa.array(wanted))["_image_uri"].to_pylist()[0]) == 3
    assert find_objects(bands, pa.array([5])).num_rows == 0


def test_find_objects_reads_their_images(tmp_path: Path) -> None:
    names, images = [f"J{number}" for number in range(9)], [f"image {number}".encode() for number in range(9)]
    pq.write_table(pa.table({"name": names, "image": images}), tmp_path / "t.parquet", row_group_size=4)
    config = ManifestConfig(uri=str(tmp_path / "t.parquet"), id_column="name", image_column="image")
    objects_read = find_objects(config, pa.array(["J8", "J0"]))
    assert dict(zip(*(objects_read[name].to_pylist() for name in ("object_id", "_image_bytes")), strict=True)) == {
        "J0": b"image 0",
        "J8": b"image 8",
    }


def test_content_id_changes_with_the_used_values_only(tmp_path: Path) -> None:
    def content_id(**changes: Any) -> str:
        pq.write_table(pa.table({**objects(), **changes}), tmp_path / "t.parquet")
        return open_manifest(manifest_config(tmp_path / "t.parquet"), 4).content_id

    first = content_id()
    assert content_id() == first
    assert content_id(mag=np.zeros(10)) == first, "an unused column changed the content id"
    ra = objects()["ra"]
    ra[7] += 1e-9
    assert content_id(ra=ra) != first
    assert content_id(objid=objects()["objid"] + 1) != first


def test_band_templates_give_three_uris_in_every_format(manifest: Path) -> None:
    templates = ("{objid}-i.fits", "{objid}-r.fits", "{objid}-g.fits")
    config = manifest_config(manifest, uri_template=None, band_templates=templates)
    folder = manifest if manifest.is_dir() else manifest.parent
    rows = manifest_rows(config, 3)
    assert rows["_image_uri"].to_pylist() == [
        [f"{folder}/{BIG + row}-{band}.fits" for band in "irg"] for row in range(10)
    ]
    other = manifest_config(manifest, uri_template=None, band_templates=templates[::-1])
    assert open_manifest(config, 3).content_id == open_manifest(config, 5).content_id
    assert open_manifest(config, 3).content_id != open_manifest(other, 3).content_id


def test_changed_images_change_the_content_id(tmp_path: Path) -> None:
    def content_id(image: bytes) -> str:
        pq.write_table(pa.table({"objid": ["x"], "image": [image]}), tmp_path / "t.parquet")
        config = manifest_config(
            tmp_path / "t.parquet", ra_column=None, dec_column=None, uri_template=None, image_column="image"
        )
        return open_manifest(config, 2).content_id

    assert content_id(b"abc") != content_id(b"abd")


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({}, {"id_column": "nope"}, r"manifest\.id_column = 'nope': no such column"),
        ({}, {"ra_column": "nope"}, r"manifest\.ra_column = 'nope': no such column"),
        ({}, {"uri_template": "{nope}.jpg"}, r"manifest\.uri_template = 'nope': no such column"),
        (
            {},
            {"uri_template": None, "band_templates": ("{objid}-i", "{nope}-r", "{objid}-g")},
            r"manifest\.band_templates = 'nope': no such column",
        ),
        ({}, {"keep_columns": ("nope",)}, r"manifest\.keep_columns = 'nope': no such column"),
        ({}, {"keep_columns": ("ra",)}, "the catalog has a column or path key .ra.; rename it"),
        ({}, {"keep_columns": ("mag", "mag")}, "names a column twice"),
        (
            {"objid": [5] * 6 + [6, 6, 7, 8]},
            {},
            r"2 ids .*: 5 \(row 1, row 2, row 3\), 6 \(row 7, row 8\)",
        ),
        ({"objid": ["a"] * 2 + list("bcdefghi")}, {}, r"1 ids are in more than one row: a \(row 1, row 2\)"),
        ({"objid": [1.0] * 10}, {}, "ids of type double are not exact"),
        ({"objid": [None, *range(9)]}, {}, "1 rows have no id"),
        ({"objid": np.arange(10, dtype=np.uint64) + 2**63}, {}, "some of which do not fit int64"),
        ({"ra": ["12:30:00"] * 10}, {}, "decimal degrees are needed"),
    ],
)
def test_errors_name_field_value_and_cause(tmp_path: Path, changes: Any, settings: Any, message: str) -> None:
    pq.write_table(pa.table({**objects(), **changes}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=message):
        open_manifest(manifest_config(tmp_path / "t.parquet", **settings), 4)


@pytest.mark.parametrize("values", [[1, 2], [{"path": "a.jpg"}, {"path": "b.jpg"}]], ids=["numbers", "no bytes"])
def test_an_image_column_without_images_is_refused(tmp_path: Path, values: list[Any]) -> None:
    pq.write_table(pa.table({"objid": [1, 2], "image": values}), tmp_path / "t.parquet")
    config = manifest_config(
        tmp_path / "t.parquet", ra_column=None, dec_column=None, uri_template=None, image_column="image"
    )
    with pytest.raises(InputError, match=r"manifest\.image_column = 'image': must contain bytes"):
        open_manifest(config, 4)


def test_an_empty_manifest_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table(objects()).slice(0, 0), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="has no rows"):
        open_manifest(manifest_config(tmp_path / "t.parquet"), 4)


def test_a_manifest_changed_during_the_run_is_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.table(objects()), tmp_path / "t.parquet")
    config = manifest_config(tmp_path / "t.parquet")
    chunk = open_manifest(config, 100).chunks[0]
    pq.write_table(pa.table(objects()).slice(0, 5), tmp_path / "t.parquet")
    with pytest.raises(RuntimeError, match="did the manifest change"):
        read_chunk(chunk.as_table(), config)


def write_files(folder: Path, **settings: Any) -> ManifestConfig:
    """Two Parquet files of three objects each; a setting is the values of a column in each of them."""
    for number in range(2):
        columns = {"objid": [3 * number + n for n in range(3)], "ra": [1.5, 2.5, 3.5], "dec": [0.5, 1.5, 2.5]}
        columns |= {name: values[number] for name, values in settings.items()}
        pq.write_table(pa.table(columns), folder / f"{number}.parquet", row_group_size=2)
    return manifest_config(folder, keep_columns=tuple(name for name in settings if name not in columns or name == "z"))


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (pa.array([0.5, 0.25, None]), pa.nulls(3), pa.float64()),
        (pa.nulls(3), pa.array([0.5, 0.25, None]), pa.float64()),
        (pa.array([0.5, 0.25, 0.1]), pa.array([1, 2, 3]), pa.float64()),
        (pa.array([1, 2, 3], pa.int32()), pa.array([2**40, 2, None]), pa.int64()),
    ],
    ids=["null last", "null first", "integers exact as floats", "int32 and int64"],
)
def test_kept_columns_have_one_type_in_all_chunks(
    tmp_path: Path, first: pa.Array, second: pa.Array, kind: pa.DataType
) -> None:
    config = write_files(tmp_path, z=(first, second))
    assert open_manifest(config, 2).kept == (pa.field("z", kind),)
    rows = manifest_rows(config, 2)
    assert rows["z"].type == kind
    assert rows["z"].to_pylist() == [*first.to_pylist(), *second.to_pylist()]
    assert read_objects(config)["z"].equals(rows["z"])
    assert find_objects(config, pa.array([1, 4])).num_rows == 2


def test_kept_columns_of_other_types_are_refused_before_anything_starts(tmp_path: Path) -> None:
    config = write_files(tmp_path, z=([0.5, 0.25, 0.1], ["a", "b", "c"]))
    with pytest.raises(InputError, match=r"manifest\.keep_columns = 'z': double in .*0\.parquet and string in .*1"):
        open_manifest(config, 2)


def test_errors_of_one_file_name_it(tmp_path: Path) -> None:
    config = write_files(tmp_path, ra=([1.5, 2.5, 3.5], ["x", "y", "z"]))
    with pytest.raises(InputError, match=r"'x' is not a number: decimal degrees are needed; in .*1\.parquet"):
        open_manifest(config, 2)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (pa.array([BIG, 7], pa.uint64()), [BIG, 7]),
        (pa.array([BIG, 7]).dictionary_encode(), [BIG, 7]),
        (pa.array([BIG, 7], pa.decimal128(20, 0)), [BIG, 7]),
        (pa.array(["J1", "J2"], pa.large_string()), ["J1", "J2"]),
        (pa.array(["J1", "J2"], pa.string_view()), ["J1", "J2"]),
        (pa.array(["J1", "J2"]).dictionary_encode(), ["J1", "J2"]),
        (pa.array([b"J1", b"J2"]), ["J1", "J2"]),
        (pa.array([b"J1\0\0", b"J2  "], pa.binary(4)), ["J1", "J2"]),
        (pa.array([b"J1", b"J2"], pa.binary_view()), ["J1", "J2"]),
    ],
    ids=[
        "uint64", "categorical integers", "decimal", "large text", "text view", "categorical", "bytes", "padded bytes",
        "bytes view",
    ],
)  # fmt: skip
def test_ids_of_every_exact_type_are_read(tmp_path: Path, ids: pa.Array, expected: list[Any]) -> None:
    pq.write_table(pa.table({"objid": ids, "ra": [1.5, 2.5], "dec": [0.5, 1.5]}), tmp_path / "t.parquet")
    config = manifest_config(tmp_path / "t.parquet")
    rows = manifest_rows(config, 1)
    assert rows["object_id"].to_pylist() == expected
    assert rows["_image_uri"].to_pylist() == [f"{tmp_path}/{value}.jpg" for value in expected]
    assert find_objects(config, pa.array(expected[1:]))["object_id"].to_pylist() == expected[1:]


@pytest.mark.parametrize(
    ("ids", "remedy"),
    [
        (pa.array([1.0, 2.0]), r"double are not exact: .* cast\(id as bigint\)"),
        (pa.array([b"\xff\xfe", b"\xff\xfd"]), r"binary are not exact: .* hex\(id\)"),
        (pa.array([2**63, 1], pa.decimal128(20, 0)), r"decimal128\(20, 0\), some of which do not fit int64"),
        (pa.array([15, 25], pa.int64()).cast(pa.decimal128(20, 0)).cast(pa.decimal128(20, 1)), None),
        (pa.array([True, False]), "bool are not exact"),
    ],
    ids=["floats", "bytes that are no text", "large decimals", "whole decimals", "booleans"],
)
def test_ids_that_are_not_exact_are_refused_with_a_cast(tmp_path: Path, ids: pa.Array, remedy: str | None) -> None:
    pq.write_table(pa.table({"objid": ids, "ra": [1.5, 2.5], "dec": [0.5, 1.5]}), tmp_path / "t.parquet")
    config = manifest_config(tmp_path / "t.parquet", uri_template="{ra}.jpg")
    if remedy is None:
        assert manifest_rows(config)["object_id"].to_pylist() == [15, 25]
    else:
        with pytest.raises(InputError, match=rf"manifest\.id_column = 'objid': ids of type {remedy}"):
            open_manifest(config, 2)


def test_whole_numbers_become_integers_where_the_config_says_so(tmp_path: Path) -> None:
    texts = [f" {BIG}", "007\0", "-5 ", "+6"]
    table = {"ra": [1.5] * 4, "dec": [0.5] * 4}
    for ids in (
        pa.array(texts),
        pa.array([t.encode() for t in texts]),
        pa.array([t.ljust(24).encode() for t in texts], pa.binary(24)),
    ):
        pq.write_table(pa.table({"objid": ids, **table}), tmp_path / "t.parquet")
        config = manifest_config(tmp_path / "t.parquet", uri_template="{ra}.jpg", integer_ids=True)
        rows = manifest_rows(config, 1)
        assert (rows["object_id"].type, rows["object_id"].to_pylist()) == (pa.int64(), [BIG, 7, -5, 6])
        assert find_objects(config, pa.array([7]))["object_id"].to_pylist() == [7]


@pytest.mark.parametrize("wrong", ["J12", "1.0", "", str(2**63), "1e5"])
def test_an_id_that_is_no_whole_number_is_shown(tmp_path: Path, wrong: str) -> None:
    pq.write_table(pa.table({"objid": ["5", wrong], "ra": [1.5] * 2, "dec": [0.5] * 2}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=f"integer_ids is true, but '{wrong}' is not a whole number of 64 bits"):
        open_manifest(manifest_config(tmp_path / "t.parquet", integer_ids=True), 2)


@pytest.mark.parametrize("kind", [pa.string_view(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_an_image_column_may_be_any_type_of_text(tmp_path: Path, kind: pa.DataType) -> None:
    uris = (
        pa.array(["a/1.jpg", "a/2.jpg"]).cast(kind)
        if not pa.types.is_dictionary(kind)
        else pa.array(["a/1.jpg", "a/2.jpg"]).dictionary_encode()
    )
    pq.write_table(pa.table({"objid": [1, 2], "image": uris}), tmp_path / "t.parquet")
    config = manifest_config(
        tmp_path / "t.parquet", ra_column=None, dec_column=None, uri_template=None, image_column="image"
    )
    assert manifest_rows(config, 1)["_image_uri"].to_pylist() == [f"{tmp_path}/a/{n}.jpg" for n in (1, 2)]


@pytest.mark.parametrize(
    "names",
    [
        ["RELEASE"], ["Confidence"], ["NORDER"], ["dir"], ["Npix"], ["Object_ID"], ["_healpix_29"], ["p_smooth"],
        ["mag as release"], ["mag", "MAG"], ["mag", "z as Mag"],
    ],
)  # fmt: skip
def test_names_that_differ_from_ours_only_in_case_are_refused(names: list[str]) -> None:
    with pytest.raises(InputError, match=r"manifest\.keep_columns = .*rename .*\"\w+ as \w+\""):
        open_manifest(manifest_config("t.parquet", keep_columns=tuple(names)), 2)


def test_kept_columns_may_get_another_name(manifest: Path) -> None:
    config = manifest_config(manifest, keep_columns=("mag as release_mag", "ra as survey_ra"))
    rows = manifest_rows(config, 3)
    assert rows["release_mag"].to_pylist() == pytest.approx(objects()["mag"].tolist())
    assert rows["survey_ra"].to_pylist() == rows["ra"].to_pylist()
    assert [field.name for field in open_manifest(config, 3).kept] == ["release_mag", "survey_ra"]
