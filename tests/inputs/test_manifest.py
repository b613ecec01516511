from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.manifest import find_objects, open_manifest, read_chunk

BIG = 1237648720693755918


def objects(rows: int = 10) -> dict[str, Any]:
    return {
        "objid": np.arange(rows) + BIG,
        "ra": np.linspace(0, 359, rows),
        "dec": np.linspace(-90, 90, rows),
        "mag": np.linspace(14, 17, rows).astype(np.float32),
    }


def config_for(path: Path, **settings: Any) -> ManifestConfig:
    defaults = {"id_column": "objid", "ra_column": "ra", "dec_column": "dec", "uri_template": "{objid}.jpg"}
    return ManifestConfig(uri=str(path), **{**defaults, **settings})


def all_rows(config: ManifestConfig, chunk_rows: int) -> pa.Table:
    chunks = open_manifest(config, chunk_rows).chunks
    return pa.concat_tables([read_chunk(pa.Table.from_pylist([c.as_item()]), config) for c in chunks])


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
    config = config_for(manifest, keep_columns=("mag",))
    opened = open_manifest(config, chunk_rows)
    rows = all_rows(config, chunk_rows)
    assert rows["object_id"].to_pylist() == [BIG + i for i in range(10)]
    assert rows["mag"].to_pylist() == pytest.approx(objects()["mag"].tolist())
    assert max(chunk.rows for chunk in opened.chunks) <= chunk_rows
    assert [chunk.index for chunk in opened.chunks] == list(range(len(opened.chunks)))
    assert (opened.rows, opened.with_position, opened.id_type) == (10, 10, pa.int64())
    folder = manifest if manifest.is_dir() else manifest.parent
    assert rows["_image_uri"][3].as_py() == f"{folder}/{BIG + 3}.jpg"


def test_find_objects_reads_the_given_ids_from_every_format(manifest: Path) -> None:
    config = config_for(manifest)
    rows = {row["object_id"]: row for row in all_rows(config, 100).drop_columns(["_chunk"]).to_pylist()}
    wanted = [BIG + 7, BIG + 1, BIG + 4]
    objects_read = find_objects(config, pa.array([*wanted, 5])).to_pylist()
    assert sorted(row["object_id"] for row in objects_read) == sorted(wanted)
    assert all(row == rows[row["object_id"]] for row in objects_read)
    assert find_objects(config, pa.array([5, 6])).num_rows == 0
    bands = config_for(
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
        return open_manifest(config_for(tmp_path / "t.parquet"), 4).content_id

    first = content_id()
    assert content_id() == first
    assert content_id(mag=np.zeros(10)) == first, "an unused column changed the content id"
    ra = objects()["ra"]
    ra[7] += 1e-9
    assert content_id(ra=ra) != first
    assert content_id(objid=objects()["objid"] + 1) != first


def test_band_templates_give_three_uris_in_every_format(manifest: Path) -> None:
    templates = ("{objid}-i.fits", "{objid}-r.fits", "{objid}-g.fits")
    config = config_for(manifest, uri_template=None, band_templates=templates)
    folder = manifest if manifest.is_dir() else manifest.parent
    rows = all_rows(config, 3)
    assert rows["_image_uri"].to_pylist() == [
        [f"{folder}/{BIG + row}-{band}.fits" for band in "irg"] for row in range(10)
    ]
    other = config_for(manifest, uri_template=None, band_templates=templates[::-1])
    assert open_manifest(config, 3).content_id == open_manifest(config, 5).content_id
    assert open_manifest(config, 3).content_id != open_manifest(other, 3).content_id


def test_changed_images_change_the_content_id(tmp_path: Path) -> None:
    def content_id(image: bytes) -> str:
        pq.write_table(pa.table({"objid": ["x"], "image": [image]}), tmp_path / "t.parquet")
        config = config_for(
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
        ({}, {"keep_columns": ("ra",)}, "the catalog has a column of this name"),
        ({}, {"keep_columns": ("mag", "mag")}, "names a column twice"),
        ({"objid": [5] * 6 + [6, 6, 7, 8]}, {}, "2 ids are in more than one row: 5, 6"),
        ({"objid": ["a"] * 2 + list("bcdefghi")}, {}, "1 ids are in more than one row: a"),
        ({"objid": [1.0] * 10}, {}, "a float is not exact"),
        ({"objid": [None, *range(9)]}, {}, "1 rows have no id"),
        ({"objid": np.arange(10, dtype=np.uint64) + 2**63}, {}, "do not fit int64"),
        ({"ra": ["12:30:00"] * 10}, {}, "decimal degrees are needed"),
    ],
)
def test_errors_name_field_value_and_cause(tmp_path: Path, changes: Any, settings: Any, message: str) -> None:
    pq.write_table(pa.table({**objects(), **changes}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=message):
        open_manifest(config_for(tmp_path / "t.parquet", **settings), 4)


def test_repeated_ids_are_refused_and_hash_collisions_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(name: str, ids: list[str]) -> None:
        pq.write_table(pa.table({**objects(), "objid": ids}), tmp_path / name)

    write("1.parquet", list("abcdefghij"))
    write("2.parquet", list("klmnopqrst"))
    config = config_for(tmp_path / "*.parquet")
    monkeypatch.setattr("galaxy_batch.inputs.manifest.id_hashes", lambda ids: np.full(len(ids), 7, np.uint64))
    assert open_manifest(config, 4).rows == 20
    monkeypatch.undo()
    write("2.parquet", list("kdmnopbrst"))
    with pytest.raises(InputError, match="2 ids are in more than one row: b, d"):
        open_manifest(config, 4)


@pytest.mark.parametrize("values", [[1, 2], [{"path": "a.jpg"}, {"path": "b.jpg"}]], ids=["numbers", "no bytes"])
def test_an_image_column_without_images_is_refused(tmp_path: Path, values: list[Any]) -> None:
    pq.write_table(pa.table({"objid": [1, 2], "image": values}), tmp_path / "t.parquet")
    config = config_for(
        tmp_path / "t.parquet", ra_column=None, dec_column=None, uri_template=None, image_column="image"
    )
    with pytest.raises(InputError, match=r"manifest\.image_column = 'image': must contain bytes"):
        open_manifest(config, 4)


def test_an_empty_manifest_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table(objects()).slice(0, 0), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="has no rows"):
        open_manifest(config_for(tmp_path / "t.parquet"), 4)


def test_a_manifest_changed_during_the_run_is_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.table(objects()), tmp_path / "t.parquet")
    config = config_for(tmp_path / "t.parquet")
    chunk = open_manifest(config, 100).chunks[0]
    pq.write_table(pa.table(objects()).slice(0, 5), tmp_path / "t.parquet")
    with pytest.raises(RuntimeError, match="did the manifest change"):
        read_chunk(pa.Table.from_pylist([chunk.as_item()]), config)
