from typing import Any

import pyarrow as pa
import pytest

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.image_uris import image_uris, published_locations, template_columns


def uris(folder: str, template: str, values: Any, column: str = "id") -> list[str | None]:
    config = ManifestConfig(uri=f"{folder}/objects.csv", uri_template=template)
    result: list[str | None] = image_uris(pa.table({column: values}), config, folder).to_pylist()
    return result


@pytest.mark.parametrize(
    ("folder", "template", "expected"),
    [
        ("/d/t", "images/{id}.jpg", "/d/t/images/7.jpg"),
        ("/d/t", "../images/{id}.jpg", "/d/images/7.jpg"),
        ("/d/t", "{id}.jpg", "/d/t/7.jpg"),
        ("/d/dr9.0", "{id}.jpg", "/d/dr9.0/7.jpg"),
        ("/d/t", "/abs/{id}/x.jpg", "/abs/7/x.jpg"),
        ("s3://b/t", "../images/{id}.jpg", "s3://b/images/7.jpg"),
        ("/d", "https://host/c?id={id}&w=424", "https://host/c?id=7&w=424"),
        ("/d", "a-{id}/b-{id}.jpg", "/d/a-7/b-7.jpg"),
    ],
)
def test_templates_are_relative_to_the_manifests_folder(folder: str, template: str, expected: str) -> None:
    assert uris(folder, template, [7]) == [expected]


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["a/7"]).dictionary_encode(),
        pa.array(["a/7"], pa.string_view()),
        pa.array([b"a/7\0\0"], pa.binary(5)),
        pa.array([b"a/7"], pa.large_binary()),
    ],
    ids=["categorical", "view", "padded bytes", "bytes"],
)
def test_parts_of_uris_may_be_of_any_type_of_text(values: pa.Array) -> None:
    assert uris("/d", "{id}.jpg", values) == ["/d/a/7.jpg"]


def test_decimals_without_fraction_are_written_as_integers() -> None:
    assert uris("/d", "{id}.jpg", pa.array([10**18 + 7], pa.decimal128(20, 0))) == [f"/d/{10**18 + 7}.jpg"]


def test_a_type_that_is_no_text_is_refused() -> None:
    with pytest.raises(InputError, match=r"manifest\.uri_template = 'id': type list<.*> cannot be part of a URI"):
        uris("/d", "{id}.jpg", [[1]])


def test_ids_are_written_exactly() -> None:
    assert uris("/d", "{id}.jpg", [1237648720693755918]) == ["/d/1237648720693755918.jpg"]


@pytest.mark.parametrize("value", ["../../etc/passwd", "a/../../b", "..", "x\ny", "x\0y", "..\\b"])
def test_unsafe_values_give_no_uri(value: str) -> None:
    assert uris("/d", "images/{id}", [value]) == [None]


def test_dots_in_names_and_subfolders_are_allowed() -> None:
    assert uris("/d", "{id}", ["a..b/c.jpg", None, "s3://b/x.jpg"]) == ["/d/a..b/c.jpg", None, "s3://b/x.jpg"]


@pytest.mark.parametrize("template", ["images/x.jpg", "{}.jpg", "{id!r}", "{id:>5}", "{id", "{a.b}"])
def test_invalid_templates_are_refused(template: str) -> None:
    with pytest.raises(InputError, match=r"manifest\.uri_template"):
        template_columns(ManifestConfig(uri="/d/o.csv", uri_template=template))
    with pytest.raises(InputError, match=r"manifest\.band_templates"):
        template_columns(ManifestConfig(uri="/d/o.csv", band_templates=("{id}-i", template, "{id}-g")))


def test_band_templates_give_a_list_of_three_per_row() -> None:
    config = ManifestConfig(uri="s3://b/t/o.csv", band_templates=("{run}/i-{id}.fits", "/r/{id}", "../g/{id}"))
    table = pa.table({"id": ["1", "..", None], "run": pa.chunked_array([["x"], ["y", "z"]])})
    assert template_columns(config) == ["run", "id", "id", "id"]
    result = image_uris(table, config, "s3://b/t")
    assert result.type == pa.list_(pa.string())
    assert result.to_pylist() == [["s3://b/t/x/i-1.fits", "/r/1", "s3://b/g/1"], [None] * 3, [None] * 3]
    assert image_uris(table.slice(0, 0), config, "s3://b/t").to_pylist() == []


def test_locations_are_published_without_credentials() -> None:
    uris = pa.chunked_array([["x", "/d/a b.jpg", None, "", "https://h/c?ra=1&token=s", "s3://k:s@b/7.jpg"]]).slice(1)
    locations = ["/d/a b.jpg", None, None, "https://h/c?ra=1", "s3://b/7.jpg"]
    assert published_locations(uris, 5).to_pylist() == locations
    assert published_locations(None, 2).to_pylist() == [None, None]
    assert published_locations(pa.chunked_array([], pa.string()), 0).to_pylist() == []


def test_locations_of_bands_are_one_text() -> None:
    config = ManifestConfig(uri="/d/t.csv", band_templates=("{n}-z.fits", "https://h/{n}?b=r&sig=s", "g/{n}.fits"))
    uris = pa.chunked_array([image_uris(pa.table({"n": ["M 1", "..", "3"]}), config, "/d")])
    expected = ["/d/M%201-z.fits https://h/M%201?b=r /d/g/M%201.fits", None, "/d/3-z.fits https://h/3?b=r /d/g/3.fits"]
    assert published_locations(uris, 3).to_pylist() == expected
    assert published_locations(uris.slice(2), 1).to_pylist() == expected[2:]


def test_numbers_are_padded_with_zeros() -> None:
    table = pa.table({"run": [94, 1737, 12345678, None], "field": ["7", "12", "x", "3"]})
    config = ManifestConfig("t.csv", uri_template="{run}/frame-{run:06d}-{field:04}.fits")
    assert image_uris(table, config, "/f").to_pylist() == [
        "/f/94/frame-000094-0007.fits", "/f/1737/frame-001737-0012.fits", "/f/12345678/frame-12345678-000x.fits", None,
    ]  # fmt: skip


def test_texts_are_shortened_to_their_beginning() -> None:
    config = ManifestConfig("t.csv", uri_template="{brick:.3}/{brick}/image.fits")
    names = pa.table({"brick": ["0001m002", "3599p090", "../x"]})
    assert image_uris(names, config, "/f").to_pylist() == [
        "/f/000/0001m002/image.fits", "/f/359/3599p090/image.fits", None,
    ]  # fmt: skip
