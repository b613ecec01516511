"""Croissant metadata: valid for mlcroissant, which reads every row through it."""

import json
import shutil
from pathlib import Path

import pytest

from galaxy_batch.sharing.config import ShareMetadata
from galaxy_batch.sharing.croissant import CROISSANT, croissant
from tests.support.shared_catalogs import ABOUT, described
from tests.support.skies import read_catalog

CHECKSUMS = {"catalog/manifest.json": "0" * 64, "model/model.safetensors": "1" * 64}


@pytest.mark.parametrize("about", [ABOUT, ShareMetadata()], ids=["everything", "nothing"])
def test_mlcroissant_reads_every_row(sky_catalog: Path, tmp_path: Path, about: ShareMetadata) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    shutil.copytree(sky_catalog, tmp_path / "catalog")
    (tmp_path / CROISSANT).write_bytes(croissant(described(sky_catalog, about), CHECKSUMS))
    dataset = mlcroissant.Dataset(str(tmp_path / CROISSANT))
    assert not dataset.metadata.issues.errors
    records = list(dataset.records("objects"))
    rows = read_catalog(sky_catalog)
    assert sorted(record["objects/object_id"] for record in records) == rows["object_id"].to_pylist()
    assert {name.removeprefix("objects/") for name in records[0]} == set(rows.column_names)


def test_fields_have_units_and_ucds(sky_catalog: Path) -> None:
    content = json.loads(croissant(described(sky_catalog), CHECKSUMS))
    fields = {field["name"]: field for field in content["recordSet"][0]["field"]}
    assert fields["ra"]["description"] == "Right ascension, ICRS (unit deg, UCD pos.eq.ra;meta.main)"
    assert [fields[name]["dataType"] for name in ("object_id", "confidence", "needs_review", "status")] == [
        "sc:Integer", "sc:Float", "sc:Boolean", "sc:Text",
    ]  # fmt: skip
    assert content["license"] == "https://spdx.org/licenses/CC-BY-4.0.html"
    assert content["creator"][0]["identifier"] == "https://orcid.org/0000-0002-1825-0097"
    assert [file.get("sha256") for file in content["distribution"]] == ["0" * 64, "1" * 64, None]


def test_a_repository_of_the_hub_is_valid(sky_catalog: Path, tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    content = croissant(described(sky_catalog, to="hf://datasets/me/galaxies"), CHECKSUMS)
    (tmp_path / CROISSANT).write_bytes(content)
    assert not mlcroissant.Dataset(str(tmp_path / CROISSANT)).metadata.issues.errors
    repository, manifest, _, rows = json.loads(content)["distribution"]
    assert repository["contentUrl"] == "https://huggingface.co/datasets/me/galaxies/tree/main"
    assert manifest["contentUrl"] == "https://huggingface.co/datasets/me/galaxies/resolve/main/catalog/manifest.json"
    assert rows["containedIn"] == {"@id": "repo"}


def test_nothing_is_invented(sky_catalog: Path) -> None:
    content = json.loads(croissant(described(sky_catalog, ShareMetadata()), {}))
    assert not {"license", "creator", "url", "identifier", "citeAs", "datePublished"} & content.keys()
