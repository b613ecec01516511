from typing import Any

import pytest

from galaxy_batch.config import CatalogConfig, ManifestConfig, fingerprint_settings
from galaxy_batch.errors import InputError
from galaxy_batch.settings import parse_config
from tests.support.configs import CATALOG_VALUES, POSITIONS


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


TILES = {"band_templates": ["*-i.fits", "*-r.fits", "*-g.fits"], "side_arcsec": 30}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"band_templates": ["*-r.fits", "*-r.fits", "*-g.fits"]}, "band_templates = .*: give three, all different"),
        ({"band_templates": ["*-i.fits", "*-r.fits"]}, "band_templates = .*: give three, all different"),
        ({"band_templates": ["i.fits", "r.fits", "g.fits"]}, r"columns in braces, or each with wildcards \(\*\)"),
        ({"band_templates": ["{run}-i.fits", "*-r.fits", "*-g.fits"]}, "columns in braces, or each with wildcards"),
        ({"table": "tiles.csv"}, "tiles.table = .*tiles.csv': band_templates name no column of it in braces"),
        ({"ra_column": "ra"}, "tiles.ra_column = 'ra': give all of ra_column, dec_column, width_deg, height_deg, with"),
        ({"side_arcsec": None}, "tiles.side_arcsec = None: give either side_arcsec or size_column"),
        ({"size_column": "r90"}, "tiles.side_arcsec = 30.0: give either side_arcsec or size_column"),
        ({"size_factor": 2}, "tiles.size_factor = 2.0: is only used with size_column"),
        ({"size_px": 4000}, "tiles.size_px = 4000: a cutout has 192003840 bytes, more than classify.max_image_bytes"),
        ({"size_pix": 100}, "manifest.tiles.size_pix = 100: unknown key; did you mean manifest.tiles.size_px"),
    ],
)
def test_tiles_that_contradict_themselves(changes: dict[str, object], message: str) -> None:
    tiles = {key: value for key, value in {**TILES, **changes}.items() if value is not None}
    manifest = {"uri": "objects.csv", **POSITIONS, "tiles": tiles}
    with pytest.raises(InputError, match=message):
        parse_config(CatalogConfig, {**CATALOG_VALUES, "manifest": manifest})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"manifest": {"uri": "objects.csv", "tiles": TILES}}, "manifest.ra_column = None: cutting from tiles needs"),
        ({"manifest": {"uri": "objects.csv", **POSITIONS, "image_column": "image", "tiles": TILES}}, "exactly one of"),
        (
            {"manifest": {"uri": "o.csv", **POSITIONS, "tiles": TILES}, "classify": {"rgb": {"planes": [2, 1, 0]}}},
            "classify.rgb.planes = .*: leave it out: manifest.tiles.band_templates are already red, green, blue",
        ),
    ],
)
def test_tiles_that_contradict_other_settings(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_config(CatalogConfig, {**CATALOG_VALUES, **values})


@pytest.mark.parametrize(
    ("settings", "listed", "over_http"),
    [
        ({}, True, False),
        ({"band_templates": ["{run}-i.fits", "{run}-r.fits", "{run}-g.fits"]}, False, False),
        ({"band_templates": [f"https://example.org/{{run}}-{b}.fits" for b in "irg"]}, False, True),
        ({"band_templates": [f"{{run}}-{b}.fits" for b in "irg"], "table": "https://example.org/t.csv"}, True, True),
    ],
)
def test_where_tiles_are(settings: dict[str, object], listed: bool, over_http: bool) -> None:
    values = {"uri": "objects.csv", **POSITIONS, "tiles": {**TILES, **settings}}
    config = parse_config(ManifestConfig, values)
    assert config.tiles is not None
    assert (config.tiles.are_listed, config.names_http, config.lists_images) == (listed, over_http, False)


def test_fingerprints_do_not_change_with_settings_that_are_not_used() -> None:
    before: dict[str, Any] = {"chunk_rows": 7, "rgb": {"stretch": 0.5}}
    assert fingerprint_settings({**before, "rgb": {**before["rgb"], "jpeg_quality": None}, "embedding": 0}) == before
    changed = {**before, "rgb": {**before["rgb"], "jpeg_quality": 90}}
    assert fingerprint_settings(changed) == changed
