from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from astropy_healpix import healpix_to_lonlat

from galaxy_batch.config import ManifestConfig
from galaxy_batch.inputs.columns import contains_images, pipeline_columns
from tests.support.manifests import manifest_config


def config_for(**settings: Any) -> ManifestConfig:
    return manifest_config("/survey/t.parquet", **settings)


def test_unusable_positions_become_null_and_the_others_get_a_healpix_pixel() -> None:
    ra = [0.0, 360.0, -10.0, 359.999, 12.0, -999.0, None, 45.0, np.nan]
    dec = [90.0, -90.0, 0.0, 45.0, 90.001, -999.0, 3.0, None, 1.0]
    table = pa.table({"objid": np.arange(9), "ra": pa.array(ra), "dec": pa.array(dec)})
    rows = pipeline_columns(table, config_for(), "/survey", with_bytes=True)
    assert rows["ra"].to_pylist() == [0.0, 0.0, 350.0, 359.999, None, None, None, None, None]
    assert rows["dec"].to_pylist() == [90.0, -90.0, 0.0, 45.0, None, None, None, None, None]
    pixels = rows["_healpix_29"].to_pylist()
    assert pixels[4:] == [None] * 5
    lon, lat = healpix_to_lonlat(np.array(pixels[:4]), 2**29, order="nested")
    assert lat.to_value("deg") == pytest.approx([90, -90, 0, 45], abs=1e-5)
    assert lon.to_value("deg")[2:] == pytest.approx([350, 359.999], abs=1e-6)


def test_without_position_columns_every_position_is_null() -> None:
    table = pa.table({"objid": np.arange(10), "ra": np.linspace(0, 359, 10), "dec": np.linspace(-90, 90, 10)})
    rows = pipeline_columns(table, config_for(ra_column=None, dec_column=None), "/survey", with_bytes=True)
    assert rows["ra"].null_count == rows["_healpix_29"].null_count == 10


@pytest.mark.parametrize("kind", ["binary", "struct", "text"])
def test_images_or_uris_in_a_column(kind: str) -> None:
    contents = [b"one", None, b"three"]
    column = {
        "binary": pa.array(contents, pa.binary()),
        "struct": pa.array([{"bytes": c, "path": f"images/{i}.jpg"} for i, c in enumerate(contents)]),
        "text": pa.array(["a.jpg", None, "s3://b/c.jpg"]),
    }[kind]
    table = pa.table({"objid": ["x", "y", "z"], "image": column})
    config = config_for(ra_column=None, dec_column=None, uri_template=None, image_column="image")
    assert contains_images(table.schema, config) == (kind != "text")
    rows = pipeline_columns(table, config, "/survey", with_bytes=True)
    if kind == "text":
        assert rows["_image_uri"].to_pylist() == ["/survey/a.jpg", None, "s3://b/c.jpg"]
    else:
        assert rows["_image_bytes"].to_pylist() == contents
    if kind == "struct":
        assert rows["_image_uri"].to_pylist()[1] == "/survey/images/1.jpg"
