"""`manifest.json`: written last, checked when it is read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from galaxy_batch.catalog import hats
from galaxy_batch.catalog.counts import total_counts
from galaxy_batch.catalog.files import MetadataFile, WrittenFile, write_metadata_file
from galaxy_batch.catalog.manifest import (
    CatalogManifest,
    ManifestError,
    parse_manifest,
    publish_manifest,
    read_manifest,
    require_manifest,
    unpublish,
)
from galaxy_batch.errors import InputError
from tests.support.parts import SCHEMA, write_catalog_files
from tests.support.skies import REVIEW, provenance_of, publish_rows, sky_rows

KEYS = [
    "format", "rows", "failed", "flagged", "without_position", "status_counts", "class_counts", "flag_counts",
    "ids_checksum", "manifest_rows", "release", "model_id", "fingerprint", "run_id", "created", "survey", "classes",
    "min_confidence", "max_unfamiliarity", "max_instability", "schema", "checkpoint", "config", "versions", "reuse",
    "max_rows", "margin_arcsec", "index", "files", "metadata_files", "embedding_files", "margin_files", "index_files",
    "collection_files",
]  # fmt: skip


def publish_files(catalog: str, files: list[WrittenFile]) -> tuple[CatalogManifest, list[MetadataFile]]:
    metadata_files = [write_metadata_file(b"x=y\n", path, catalog) for path in hats.METADATA_FILES]
    return publish_manifest(catalog, files, metadata_files, provenance_of(5, SCHEMA)), metadata_files


def test_there_is_no_catalog_until_the_manifest_is_written(tmp_path: Path) -> None:
    catalog = str(tmp_path / "catalog")
    files = write_catalog_files(tmp_path)
    assert read_manifest(catalog) is None
    with pytest.raises(InputError, match=r"old_uri = .*no catalog is published there: no manifest\.json"):
        require_manifest(catalog, "old_uri")
    manifest, metadata_files = publish_files(catalog, files[::-1])
    assert read_manifest(catalog) == require_manifest(catalog) == manifest
    assert (manifest.rows, manifest.failed, manifest.flagged, manifest.without_position) == (5, 2, 2, 0)
    assert vars(total_counts(file.counts for file in files)).items() <= vars(manifest).items()
    assert manifest.files == tuple(file.file for file in files)
    assert manifest.metadata_files == tuple(sorted(metadata_files, key=lambda file: file.path))
    assert manifest.review_limits == REVIEW
    unpublish(catalog)
    assert not (tmp_path / "catalog").exists()
    unpublish(catalog)


def test_the_keys_of_the_json_stay_as_they_are(tmp_path: Path) -> None:
    manifest, _ = publish_files(str(tmp_path / "catalog"), write_catalog_files(tmp_path))
    content = json.loads((tmp_path / "catalog" / "manifest.json").read_text())
    assert list(content) == KEYS
    assert list(content["files"][0]) == ["path", "rows", "bytes", "sha256"]
    assert list(content["metadata_files"][0]) == ["path", "bytes", "sha256"]
    assert content == json.loads(json.dumps(manifest.as_json()))


@pytest.mark.parametrize("content", ["{", "[]", '{"files": 3}', '{"format": 1}', '{"format": 2, "files": []}'])
def test_a_manifest_that_cannot_be_used_is_not_the_same_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"new_uri = .*manifest\.json: "):
        read_manifest(str(tmp_path), "new_uri")


WRONG: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "format of the future": (lambda m: m.update(format=99), "its format is 99; this version reads format 2"),
    "no format": (lambda m: m.pop("format"), "its format is None"),
    "rows as text": (lambda m: m.update(rows="60"), "rows must be of type int, not str"),
    "negative of a type": (lambda m: m.update(rows=None), "rows must be of type int, not NoneType"),
    "count of a status": (lambda m: m["status_counts"].update(ok="x"), "status_counts.ok must be of type int"),
    "classes": (lambda m: m.update(classes="smooth"), "classes must be a list"),
    "file": (lambda m: m["files"].append(3), "must be a section"),
    "no settings of the audit": (
        lambda m: m["config"]["review"].pop("audit_seed"),
        "does not say how rows were flagged ('audit_seed')",
    ),
    "settings of the audit": (
        lambda m: m["config"]["review"].update(audit_fraction=7),
        "audit_fraction = 7.0: must be between 0 and 1",
    ),
    "settings of a flag": (
        lambda m: m["config"]["review"].update(min_repeats="many"),
        "min_repeats = 'many': must be of type int",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_values_are_named(tmp_path: Path, kind: str) -> None:
    manifest = json.loads((publish_rows(tmp_path, sky_rows(60)) / "manifest.json").read_text())
    change, message = WRONG[kind]
    change(manifest)
    with pytest.raises(ManifestError) as caught:
        parse_manifest(json.dumps(manifest).encode())
    (problem,) = caught.value.problems
    assert message in problem


def test_keys_of_a_later_version_are_ignored_and_optional_ones_may_be_missing(tmp_path: Path) -> None:
    manifest = json.loads((publish_rows(tmp_path, sky_rows(60)) / "manifest.json").read_text())
    manifest["later"] = {"a": 1}
    for name in ("created", "survey", "checkpoint", "versions", "reuse"):
        del manifest[name]
    assert parse_manifest(json.dumps(manifest).encode()).checkpoint == {}
