import pytest

from galaxy_batch.config import CatalogConfig
from galaxy_batch.errors import InputError
from galaxy_batch.settings import parse_config

VALUES = {
    "release": "dr7",
    "output_uri": "s3://bucket/out",
    "checkpoint_uri": "/m.safetensors",
    "manifest": {"uri": "objects.csv", "uri_template": "{object_id}.jpg"},
}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("release=../up", "release = '../up': use letters, digits"),
        ("release=..", "release = '..': use letters, digits"),
        ("manifest.image_column=bytes", "give either image_column or uri_template"),
        ("manifest.band_templates=['{i}', '{r}', '{g}']", "band_templates, and only one of them"),
        ("classify.rgb.scale=[1, 2]", "rgb.scale = (1.0, 2.0): three factors above 0"),
        ("classify.rgb.scale=[1, 2, nan]", "rgb.scale = (1.0, 2.0, nan): three factors above 0"),
        ("classify.rgb.planes=[1, 2]", "rgb.planes = (1, 2): three numbers from 0 on"),
        ("classify.rgb.planes=[2, 1, -1]", "rgb.planes = (2, 1, -1): three numbers from 0 on"),
        ("manifest.ra_column=ra", "give both ra_column and dec_column"),
    ],
)
def test_values_that_do_not_fit_together_are_named_with_their_remedy(override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_config(CatalogConfig, VALUES, [override])
    assert message in str(caught.value)


@pytest.mark.parametrize("templates", [["{i}", "{r}"], ["{i}", "{r}", "{r}"]])
def test_bands_are_three_and_not_the_same(templates: list[str]) -> None:
    manifest = {"uri": "objects.csv", "band_templates": templates}
    with pytest.raises(InputError, match=r"manifest\.band_templates = .*: give three: red, green, blue"):
        parse_config(CatalogConfig, {**VALUES, "manifest": manifest})
