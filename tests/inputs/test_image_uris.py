import pyarrow as pa
import pytest

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.image_uris import image_uris, template_columns


def uris(manifest: str, template: str, values: list[object], column: str = "id") -> list[str | None]:
    config = ManifestConfig(uri=manifest, uri_template=template)
    result: list[str | None] = image_uris(pa.table({column: values}), config).to_pylist()
    return result


@pytest.mark.parametrize(
    ("manifest", "template", "expected"),
    [
        ("/d/t/objects.csv", "images/{id}.jpg", "/d/t/images/7.jpg"),
        ("/d/t/objects.csv", "../images/{id}.jpg", "/d/images/7.jpg"),
        ("/d/t/objects.csv", "{id}.jpg", "/d/t/7.jpg"),
        ("/d/t", "{id}.jpg", "/d/t/7.jpg"),
        ("/d/t/*.parquet", "{id}.jpg", "/d/t/7.jpg"),
        ("/d/t/objects.csv", "/abs/{id}/x.jpg", "/abs/7/x.jpg"),
        ("s3://b/t/objects.csv", "../images/{id}.jpg", "s3://b/images/7.jpg"),
        ("/d/objects.csv", "https://host/c?id={id}&w=424", "https://host/c?id=7&w=424"),
        ("/d/objects.csv", "a-{id}/b-{id}.jpg", "/d/a-7/b-7.jpg"),
    ],
)
def test_templates_are_relative_to_the_manifests_folder(manifest: str, template: str, expected: str) -> None:
    assert uris(manifest, template, [7]) == [expected]


def test_ids_are_written_exactly() -> None:
    assert uris("/d/o.csv", "{id}.jpg", [1237648720693755918]) == ["/d/1237648720693755918.jpg"]


@pytest.mark.parametrize("value", ["../../etc/passwd", "a/../../b", "..", "x\ny", "x\0y", "..\\b"])
def test_unsafe_values_give_no_uri(value: str) -> None:
    assert uris("/d/o.csv", "images/{id}", [value]) == [None]


def test_dots_in_names_and_subfolders_are_allowed() -> None:
    assert uris("/d/o.csv", "{id}", ["a..b/c.jpg", None, "s3://b/x.jpg"]) == ["/d/a..b/c.jpg", None, "s3://b/x.jpg"]


@pytest.mark.parametrize("template", ["images/x.jpg", "{}.jpg", "{id!r}", "{id:05d}", "{id", "{a.b}"])
def test_invalid_templates_are_refused(template: str) -> None:
    with pytest.raises(InputError, match=r"manifest\.uri_template"):
        template_columns(ManifestConfig(uri="/d/o.csv", uri_template=template))
    with pytest.raises(InputError, match=r"manifest\.band_templates"):
        template_columns(ManifestConfig(uri="/d/o.csv", band_templates=("{id}-i", template, "{id}-g")))


def test_band_templates_give_a_list_of_three_per_row() -> None:
    config = ManifestConfig(uri="s3://b/t/o.csv", band_templates=("{run}/i-{id}.fits", "/r/{id}", "../g/{id}"))
    table = pa.table({"id": ["1", "..", None], "run": pa.chunked_array([["x"], ["y", "z"]])})
    assert template_columns(config) == ["run", "id", "id", "id"]
    result = image_uris(table, config)
    assert result.type == pa.list_(pa.string())
    assert result.to_pylist() == [["s3://b/t/x/i-1.fits", "/r/1", "s3://b/g/1"], [None] * 3, [None] * 3]
    assert image_uris(table.slice(0, 0), config).to_pylist() == []
