import json
from pathlib import Path

import pyarrow as pa
import pytest

from galaxy_batch.catalog.files import write_metadata_file
from galaxy_batch.catalog.layout import Layout, fingerprint, publish_manifest, read_manifest, unpublish
from galaxy_batch.errors import InputError
from galaxy_batch.ids import id_hashes, ids_checksum
from tests.support.parts import write_catalog_files


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


def test_there_is_no_catalog_until_the_manifest_is_written(tmp_path: Path) -> None:
    catalog = str(tmp_path / "catalog")
    entries = write_catalog_files(tmp_path)
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


@pytest.mark.parametrize("content", ["{", "[]", '{"files": 3}', '{"files": []}'])
def test_a_damaged_manifest_is_not_taken_for_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest\.json is damaged"):
        read_manifest(str(tmp_path))


def test_the_manifest_is_plain_json(tmp_path: Path) -> None:
    publish_manifest(str(tmp_path), [], [], {"fingerprint": "f"})
    assert json.loads((tmp_path / "manifest.json").read_text())["rows"] == 0
