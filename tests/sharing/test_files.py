"""The files that are shared."""

from pathlib import Path

import pytest

from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.errors import GateError
from galaxy_batch.sharing.files import catalog_files, collection_files, written_file
from tests.support.shared_catalogs import copied


def test_the_files_of_a_catalog_are_those_of_its_manifest(sky_catalog: Path) -> None:
    files = catalog_files(str(sky_catalog), require_manifest(str(sky_catalog)))
    there = {str(path.relative_to(sky_catalog.parent)) for path in sky_catalog.rglob("*") if path.is_file()}
    assert {file.path for file in files} == there - {"catalog/manifest.json"}
    assert any(file.path.endswith(".pq") for file in files)
    assert any("without_position" in file.path for file in files)
    assert sum(file.rows for file in files) == 400
    assert all(len(file.content()) == file.size for file in files)


@pytest.mark.parametrize("change", ["altered", "removed"])
def test_a_source_that_changes_is_noticed(sky_catalog: Path, tmp_path: Path, change: str) -> None:
    catalog = copied(sky_catalog, tmp_path)
    file = catalog_files(str(catalog), require_manifest(str(catalog)))[0]
    path = Path(str(file.uri))
    if change == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(GateError, match="changed meanwhile"):
        file.content()


def test_a_collection_is_what_the_manifest_lists(collection: Path) -> None:
    manifest = require_manifest(str(collection))
    files = collection_files(str(collection), manifest)
    there = {
        str(path.relative_to(collection.parent))
        for name in ("margin_10arcs", "index_object_id")
        for path in (collection.parent / name).rglob("*")
        if path.is_file()
    }
    assert {file.path for file in files} == there | {"collection.properties"}
    assert files[-1].path == "collection.properties"
    assert all(len(file.content()) == file.size for file in files)


def test_a_catalog_that_was_copied_alone_has_none(collection: Path, sky_catalog: Path, tmp_path: Path) -> None:
    alone = copied(collection, tmp_path)
    assert collection_files(str(alone), require_manifest(str(alone))) == []
    assert collection_files(str(sky_catalog), require_manifest(str(sky_catalog))) == []


def test_a_written_file_is_its_content() -> None:
    file = written_file("README.md", b"text")
    assert file.content() == b"text"
    assert file.is_content(b"text")
    assert not file.is_content(b"tex")
    assert not file.is_content(b"tent")
