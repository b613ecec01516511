import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog import (
    Heading,
    Layout,
    file_path,
    fingerprint,
    publish_manifest,
    read_manifest,
    unpublish,
    write_catalog_file,
    write_metadata_file,
)
from galaxy_batch.errors import InputError
from galaxy_batch.ids import id_hashes, ids_checksum
from galaxy_batch.parts import read_part, write_part
from galaxy_batch.publishing.votable import CONTENT_KEY
from galaxy_batch.sky.healpix import Tile
from tests.test_parts import SCHEMA, rows

HEADING = Heading(SCHEMA, "r", "m")


def test_every_path_is_below_release_and_model() -> None:
    layout = Layout("s3://b/out", "dr7", "abc123")
    assert layout.catalog == "s3://b/out/release=dr7/model=abc123/catalog"
    assert layout.parts("f00") == "s3://b/out/release=dr7/model=abc123/parts/f00"
    assert layout.exchange("f00") == "s3://b/out/release=dr7/model=abc123/exchange/f00"
    assert layout.run("r1") == "s3://b/out/release=dr7/model=abc123/runs/r1.json"


def test_the_fingerprint_depends_on_all_that_parts_are_made_from() -> None:
    base = fingerprint("m", "c", {"a": 1, "b": 2})
    assert fingerprint("m", "c", {"b": 2, "a": 1}) == base
    assert (
        len(
            {
                base,
                fingerprint("m2", "c", {"a": 1, "b": 2}),
                fingerprint("m", "c2", {"a": 1, "b": 2}),
                fingerprint("m", "c", {"a": 1}),
            }
        )
        == 4
    )


def test_a_tile_has_a_file_on_the_sky_or_beside_it() -> None:
    assert file_path(Tile(3, 530, 9), 0) == "dataset/Norder=3/Dir=0/Npix=530.parquet"
    assert file_path(Tile(0, 12, 9), 4) == "without_position/part-000004.parquet"


def written(folder: Path) -> list[dict[str, Any]]:
    entries = []
    for chunk, ids in enumerate(([1, 2], [3, 4, 5])):
        write_part(rows(chunk, ids), str(folder / "parts"), SCHEMA, "r", "m")
        part = read_part(pa.table({"index": [chunk]}), str(folder / "parts"))
        entries.append(write_catalog_file(part, file_path(Tile(0, chunk, 0), 0), HEADING, str(folder / "catalog")))
    return entries


def test_there_is_no_catalog_until_the_manifest_is_written(tmp_path: Path) -> None:
    catalog = str(tmp_path / "catalog")
    entries = written(tmp_path)
    metadata = write_metadata_file(b"x=y\n", "hats.properties", catalog)
    assert read_manifest(catalog) is None
    manifest = publish_manifest(catalog, reversed(entries), [metadata], {"fingerprint": "f", "release": "r"})
    assert read_manifest(catalog) == manifest
    assert (manifest["rows"], manifest["failed"], manifest["flagged"], manifest["without_position"]) == (5, 2, 2, 0)
    assert manifest["class_counts"] == {"smooth": 3}
    assert manifest["status_counts"] == {"missing": 2, "ok": 3}
    assert manifest["flag_counts"]["UNREADABLE"] == 2
    assert manifest["ids_checksum"] == f"{ids_checksum(id_hashes(pa.chunked_array([[1, 2, 3, 4, 5]]))):016x}"
    assert [f["path"] for f in manifest["files"]] == [
        "dataset/Norder=0/Dir=0/Npix=0.parquet", "dataset/Norder=0/Dir=0/Npix=1.parquet",
    ]  # fmt: skip
    assert set(manifest["files"][0]) == {"path", "rows", "bytes", "sha256"}
    assert manifest["metadata_files"] == [metadata]
    unpublish(catalog)
    assert not (tmp_path / "catalog").exists()
    unpublish(catalog)


def test_a_file_holds_the_catalogs_columns_and_a_header(tmp_path: Path) -> None:
    entry = written(tmp_path)[1]
    file = tmp_path / "catalog" / entry["path"]
    found = pq.read_table(file, partitioning=None)
    assert found.schema.equals(SCHEMA)
    assert found.schema.field("dec").metadata[b"unit"] == b"deg"
    assert CONTENT_KEY in found.schema.metadata
    assert (entry["rows"], entry["bytes"]) == (3, file.stat().st_size)
    assert pq.read_metadata(pa.BufferReader(entry["footer"])).num_rows == 3


def test_the_same_rows_are_the_same_file(tmp_path: Path) -> None:
    assert [entry["sha256"] for entry in written(tmp_path / "a")] == [e["sha256"] for e in written(tmp_path / "b")]


@pytest.mark.parametrize("content", ["{", "[]", '{"files": 3}', '{"files": []}'])
def test_a_damaged_manifest_is_not_taken_for_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest\.json is damaged"):
        read_manifest(str(tmp_path))


def test_the_manifest_is_plain_json(tmp_path: Path) -> None:
    publish_manifest(str(tmp_path), [], [], {"fingerprint": "f"})
    assert json.loads((tmp_path / "manifest.json").read_text())["rows"] == 0
