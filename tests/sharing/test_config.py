"""What people say about a catalog: licences, ORCID iDs, DOIs and names that are wrong are named."""

from typing import Any

import pytest

from galaxy_batch.errors import InputError
from galaxy_batch.settings import parse_config
from galaxy_batch.sharing.config import Author, ShareConfig

PLACES = {"catalog_uri": "/c/catalog", "to_uri": "/shared"}


@pytest.mark.parametrize("license_id", ["CC-BY-4.0", "CC0-1.0", "BSD-3-Clause", "ODbL-1.0"])
def test_spdx_identifiers_are_licences(license_id: str) -> None:
    assert parse_config(ShareConfig, {**PLACES, "share": {"license": license_id}}).share.license == license_id


@pytest.mark.parametrize("orcid", ["0000-0002-1825-0097", "0000-0001-5109-3700", "0000-0002-1694-233X"])
def test_orcid_ids_have_a_check_digit(orcid: str) -> None:
    assert Author("Carberry", orcid=orcid).orcid == orcid


@pytest.mark.parametrize(
    ("share", "field", "remedy"),
    [
        ({"license": "CC BY 4.0"}, "share.license", "SPDX"),
        ({"license": "cc-by-4.0"}, "share.license", "did you mean CC-BY-4.0?"),
        ({"license": "MIT OR Apache-2.0"}, "share.license", "one SPDX identifier"),
        ({"license": "LicenseRef-ours"}, "share.license", "SPDX"),
        ({"checkpoint_license": "free"}, "share.checkpoint_license", "SPDX"),
        ({"doi": "https://doi.org/10.5281/zenodo.1"}, "share.doi", "without https://doi.org/"),
        ({"doi": "zenodo.1"}, "share.doi", "not a DOI"),
        ({"url": "example.org"}, "share.url", "http"),
        ({"repository_url": "https://me:secret@example.org"}, "share.repository_url", "without credentials"),
        ({"authors": [{"family_names": "C", "orcid": "0000-0002-1825-0098"}]}, "share.authors.orcid", "check digit"),
        ({"authors": [{"family_names": "C", "orcid": "https://orcid.org/0000-0002-1825-0097"}]},
         "share.authors.orcid", "without an address"),
        ({"authors": [{"name": "Team", "orcid": "0000-0002-1825-0097"}]}, "share.authors.orcid", "only people"),
        ({"authors": [{"name": "Team", "family_names": "C"}]}, "share.authors", "family_names"),
        ({"authors": [{"given_names": "Josiah"}]}, "share.authors", "family_names"),
        ({"authors": [{"affiliation": "Brown"}]}, "share.authors", "family_names"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(share: dict[str, Any], field: str, remedy: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_config(ShareConfig, {**PLACES, "share": share})
    assert raised.value.field == field
    assert remedy in raised.value.remedy
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("to_uri", "remedy"),
    [
        ("hf://datasets/me", "OWNER/NAME"),
        ("hf://me/galaxies", "OWNER/NAME"),
        ("hf://datasets/me/galaxies/folder", "OWNER/NAME"),
        ("/c/catalog/shared", "inside"),
        ("/c/catalog", "inside"),
        ("/c", "contains it"),
    ],
)
def test_a_target_that_cannot_be(to_uri: str, remedy: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_config(ShareConfig, {**PLACES, "to_uri": to_uri})
    assert raised.value.field == "to_uri"
    assert remedy in raised.value.remedy


def test_names_as_texts_and_lists_have_them() -> None:
    person, team = Author("Carberry", "Josiah"), Author(name="The Team")
    assert (person.title, person.sorting_name) == ("Josiah Carberry", "Carberry, Josiah")
    assert (team.title, team.sorting_name) == ("The Team", "The Team")
