import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog import (
    Layout,
    fingerprint,
    publish_manifest,
    read_manifest,
    unpublish,
    write_catalog_file,
)
from galaxy_batch.errors import InputError
from galaxy_batch.parts import read_part, write_part
from tests.test_parts import SCHEMA, rows


def test_every_path_is_below_release_and_model() -> None:
    layout = Layout("s3://b/out", "dr7", "abc123")
    assert layout.catalog == "s3://b/out/release=dr7/model=abc123/catalog"
    assert layout.parts("f00") == "s3://b/out/release=dr7/model=abc123/parts/f00"
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


def test_there_is_no_catalog_until_the_manifest_is_written(tmp_path: Path) -> None:
    catalog = str(tmp_path / "catalog")
    entries = []
    for chunk, ids in enumerate(([1, 2], [3, 4, 5])):
        write_part(rows(chunk, ids), str(tmp_path / "parts"), SCHEMA, "r", "m")
        part = read_part(pa.table({"index": [chunk]}), str(tmp_path / "parts"))
        entries += write_catalog_file(part, catalog).to_pylist()
        assert read_manifest(catalog) is None
    manifest = publish_manifest(catalog, reversed(entries), {"fingerprint": "f", "release": "r"})
    assert read_manifest(catalog) == manifest
    assert (manifest["rows"], manifest["failed"], manifest["flagged"]) == (5, 2, 2)
    assert manifest["class_counts"] == {"smooth": 3}
    assert manifest["status_counts"] == {"missing": 2, "ok": 3}
    assert manifest["flag_counts"]["UNREADABLE"] == 2
    assert [f["path"] for f in manifest["files"]] == ["dataset/part-000000.parquet", "dataset/part-000001.parquet"]
    assert pq.read_table(tmp_path / "catalog" / "dataset").schema.equals(SCHEMA)
    unpublish(catalog)
    assert not (tmp_path / "catalog").exists()
    unpublish(catalog)


@pytest.mark.parametrize("content", ["{", "[]", '{"files": 3}', '{"files": []}'])
def test_a_damaged_manifest_is_not_taken_for_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest\.json is damaged"):
        read_manifest(str(tmp_path))


def test_the_manifest_is_plain_json(tmp_path: Path) -> None:
    publish_manifest(str(tmp_path), [], {"fingerprint": "f"})
    assert json.loads((tmp_path / "manifest.json").read_text())["rows"] == 0
