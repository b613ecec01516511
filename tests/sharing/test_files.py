"""The files that are shared."""

import json
from pathlib import Path

import pytest

from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.errors import GateError, InputError
from galaxy_batch.sharing.files import catalog_files, collection_files, written_file
from tests.support.shared_catalogs import copied, write_collection


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


def test_a_collection_is_what_its_properties_name(sky_catalog: Path, tmp_path: Path) -> None:
    catalog = copied(sky_catalog, tmp_path)
    assert collection_files(str(catalog)) == []
    expected = write_collection(catalog)
    (catalog.parent / "runs").mkdir()
    (catalog.parent / "runs" / "1.json").write_text(json.dumps({}))
    files = collection_files(str(catalog))
    assert {file.path: file.content() for file in files} == expected
    assert files[-1].path == "collection.properties"


@pytest.mark.parametrize(
    "changes",
    [
        {"hats_primary_table_url": "other"},
        {"all_margins": "../elsewhere"},
        {"all_margins": "catalog"},
        {"all_indexes": "object_id index_that_is_not_there"},
    ],
)
def test_a_collection_of_something_else_is_refused(sky_catalog: Path, tmp_path: Path, changes: dict[str, str]) -> None:
    catalog = copied(sky_catalog, tmp_path)
    write_collection(catalog, **changes)
    with pytest.raises(InputError, match=r"collection\.properties"):
        collection_files(str(catalog))


def test_a_written_file_is_its_content() -> None:
    file = written_file("README.md", b"text")
    assert file.content() == b"text"
    assert file.is_content(b"text")
    assert not file.is_content(b"tex")
    assert not file.is_content(b"tent")
