import pytest

from galaxy_batch.config import CatalogConfig
from galaxy_batch.errors import InputError
from galaxy_batch.settings import parse_config
from tests.support.configs import CATALOG_VALUES


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("release=../up", "release = '../up': use letters, digits"),
        ("release=..", "release = '..': use letters, digits"),
        ("release=", "release = '': use letters, digits"),
        ("manifest.image_column=bytes", "give exactly one of image_column, uri_template and band_templates"),
        ("manifest.band_templates=['{i}', '{r}', '{g}']", "give exactly one of image_column"),
        ("classify.rgb.planes=[1, 2]", "rgb.planes = (1, 2): give three numbers"),
        ("manifest.ra_column=ra", "give both ra_column and dec_column"),
    ],
)
def test_values_that_contradict_each_other_are_input_errors(override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_config(CatalogConfig, CATALOG_VALUES, [override])
    assert message in str(caught.value)


@pytest.mark.parametrize("templates", [["{i}", "{r}"], ["{i}", "{r}", "{r}"]])
def test_band_templates_must_be_three_different_ones(templates: list[str]) -> None:
    manifest = {"uri": "objects.csv", "band_templates": templates}
    with pytest.raises(InputError, match=r"manifest\.band_templates = .*: give three, all different"):
        parse_config(CatalogConfig, {**CATALOG_VALUES, "manifest": manifest})
