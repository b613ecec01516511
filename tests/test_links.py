import pytest

from galaxy_batch.config import ReportConfig
from galaxy_batch.errors import InputError
from galaxy_batch.links import SKY_LINKS, check_links, cutout_links, galaxy_links, link_to, locations
from galaxy_batch.settings import parse_config


def test_links_are_filled_in_where_there_is_a_position() -> None:
    links = galaxy_links(SKY_LINKS | {"survey": "https://survey.org/{object_id}"}, "NGC 1/<a>", 12.5, -0.25)
    assert "ra=12.500000&dec=-0.250000" in links["SkyServer"]
    assert "ra=12.500000&dec=-0.250000" in links["Legacy Surveys"]
    assert links["survey"] == "https://survey.org/NGC%201%2F%3Ca%3E"
    assert list(galaxy_links({**SKY_LINKS, "survey": "https://survey.org/{object_id}"}, 7, None, None)) == ["survey"]


@pytest.mark.parametrize(
    "template",
    [
        "javascript:alert({ra})", "http:{ra}", "ftp://a/{ra}", "//a/{ra}", "https://user:word@a/{ra}", "https://{object_id}/",
        "https://a/{name}", "https://a/{ra.real}", "https://a/{ra!r}", "https://a/{ra:.3f}", "https://a/{ra", "https://a/{}",
    ],
)  # fmt: skip
def test_bad_templates_are_config_errors(template: str) -> None:
    with pytest.raises(InputError, match=r"report\.links\.mine"):
        parse_config(ReportConfig, {"links": {"mine": template}})


def test_links_of_a_config() -> None:
    assert parse_config(ReportConfig, {}).links == SKY_LINKS
    assert parse_config(ReportConfig, {"links": {}}).links == {}
    check_links("links", {"page": "http://localhost:8000/?at={ra},{dec}#{object_id}"})


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("https://a.org/cutouts/7.jpg", "https://a.org/cutouts/7.jpg"),
        ("s3://bucket/7.jpg", "s3://bucket/7.jpg"),
        ("/data/cutouts/7 a.jpg", "../cutouts/7%20a.jpg"),
        ("file:///data/cutouts/7.jpg", "../cutouts/7.jpg"),
        ("/data/report/javascript:alert(1)", "javascript%3Aalert%281%29"),
        ("https://a.org/cutout?ra=1.5&dec=-2&size=64", "https://a.org/cutout?ra=1.5&dec=-2&size=64"),
        ("https://a.org/7.jpg?signature=abc", None),
        ("https://a.org/cutout?ra=1.5&token=abc", None),
        ("https://user:word@a.org/7.jpg", None),
        ("s3://key:secret@bucket/7.jpg", None),
        ("zip://7.jpg::/data/cutouts.zip", None),
        ("javascript:alert(1)", None),
        ("data:text/html,<script>", None),
        ("memory://7.jpg", None),
    ],
)
def test_only_safe_addresses_without_secrets_are_linked(uri: str, address: str | None) -> None:
    assert link_to(uri, "/data/report") == address


def test_cutouts_of_bands_and_pages_on_a_store() -> None:
    bands = [f"https://a.org/7-{band}.fits" for band in "irg"]
    assert cutout_links(bands, "/data/report") == dict(zip(("red", "green", "blue"), bands, strict=True))
    assert cutout_links([None], "/data") == cutout_links([], "/data") == cutout_links(["/a.jpg"], "s3://b/report") == {}


@pytest.mark.parametrize(
    ("image_uri", "uris"),
    [
        (None, ()),
        ("https://a.org/7.jpg", ("https://a.org/7.jpg",)),
        ("/data/NGC 1 a.jpg", ("/data/NGC 1 a.jpg",)),
        ("/data/i%201.fits s3://b/r.fits /g.fits", ("/data/i 1.fits", "s3://b/r.fits", "/g.fits")),
    ],
)
def test_a_column_of_locations_has_one_or_three_uris(image_uri: str | None, uris: tuple[str, ...]) -> None:
    assert locations(image_uri) == uris
