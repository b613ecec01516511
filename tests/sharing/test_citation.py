"""CITATION.cff is valid, .zenodo.json and BibTeX have the same people."""

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml

from galaxy_batch.sharing.citation import bibtex, citation_cff, citation_line, zenodo_json
from galaxy_batch.sharing.config import Author, ShareMetadata
from tests.support.shared_catalogs import ABOUT, described

MINIMAL = ShareMetadata(authors=(Author("Carberry"),))


@pytest.mark.parametrize("about", [ABOUT, MINIMAL], ids=["everything", "one name"])
def test_the_citation_follows_the_schema(sky_catalog: Path, about: ShareMetadata) -> None:
    pytest.importorskip("check_jsonschema")
    schema = json.loads(
        files("check_jsonschema").joinpath("builtin_schemas", "vendor", "citation-file-format.json").read_text()
    )
    citation = yaml.load(citation_cff(described(sky_catalog, about)) or b"", yaml.BaseLoader)  # dates as text
    jsonschema.validate(citation, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**citation, "license": "ours"}, schema)


def test_the_citation_has_what_people_said(sky_catalog: Path) -> None:
    citation = yaml.safe_load(citation_cff(described(sky_catalog)) or b"")
    assert citation["title"] == ABOUT.title
    assert citation["authors"][0]["orcid"] == "https://orcid.org/0000-0002-1825-0097"
    assert citation["authors"][1] == {"name": "The Made-up Collaboration"}
    assert (citation["license"], citation["doi"]) == ("CC-BY-4.0", "10.5281/zenodo.1234567")
    assert citation["version"] == "made-up"


def test_nothing_is_invented(sky_catalog: Path) -> None:
    nothing = described(sky_catalog, ShareMetadata())
    assert citation_cff(nothing) is None
    assert zenodo_json(nothing) is None
    assert citation_line(nothing) is None
    citation = yaml.safe_load(citation_cff(described(sky_catalog, MINIMAL)) or b"")
    assert not {"license", "doi", "url", "repository-code", "date-released"} & citation.keys()


def test_zenodo_gets_the_same(sky_catalog: Path) -> None:
    deposit = json.loads(zenodo_json(described(sky_catalog, to="hf://datasets/me/galaxies")) or b"")
    assert deposit["creators"] == [
        {"name": "Carberry, Josiah", "orcid": "0000-0002-1825-0097", "affiliation": "Brown University"},
        {"name": "The Made-up Collaboration"},
    ]
    assert deposit["license"] == "cc-by-4.0"
    assert "<p>A catalog of simulated rows: bars | and &lt;angles&gt; are" in deposit["description"]
    assert deposit["related_identifiers"] == [
        {"identifier": "https://example.org/code", "relation": "isCompiledBy"},
        {"identifier": "https://huggingface.co/datasets/me/galaxies", "relation": "isIdenticalTo"},
    ]


def test_lines_to_cite(sky_catalog: Path) -> None:
    catalog = described(sky_catalog)
    assert citation_line(catalog) == (
        "Carberry, Josiah; The Made-up Collaboration (undated). Galaxies of a made-up sky, version made-up. "
        "https://doi.org/10.5281/zenodo.1234567"
    )
    assert "author = {{Carberry}, Josiah and {The Made-up Collaboration}}" in bibtex(catalog)
    assert "title = {{Galaxies of a made-up sky}}" in bibtex(catalog)
