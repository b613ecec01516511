"""Galaxies cut out of real imaging: NGC 6976 to 6978, SDSS run 1737, with the checkpoint that ships."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from astropy.io import fits

from galaxy_batch.config import ClassifyConfig, ManifestConfig
from galaxy_batch.cutouts.decode import decode
from galaxy_batch.inputs.manifest import open_manifest, read_chunk
from galaxy_batch.model.classifier import Classifier
from galaxy_batch.settings import parse_config
from galaxy_batch.tiles.cutouts import read_cutouts
from galaxy_batch.tiles.grouping import group_by_tile
from tests.support.configs import POSITIONS

OBJECTS = """object_id,ra,dec,size
6976,313.1083,-5.7717,90
6977,313.1237,-5.7461,100
6978,313.1477,-5.7113,110
1,313.4,-5.7,60
"""


def test_spirals_are_featured_and_centred(sky: Path, tmp_path: Path) -> None:
    (tmp_path / "objects.csv").write_text(OBJECTS)
    templates = [f"{sky}/fits_ngc6976/*_sdss_{band}.fits.bz2" for band in "irg"]
    tiles = {"band_templates": templates, "size_column": "size", "size_px": 256}
    config = parse_config(ManifestConfig, {"uri": str(tmp_path / "objects.csv"), **POSITIONS, "tiles": tiles})
    manifest = group_by_tile(open_manifest(config, 100), config, 100, str(tmp_path / "memory"))
    chunks = [read_cutouts(read_chunk(c.as_table(), config), config, 1 << 25, 2) for c in manifest.chunks]
    rows = pa.concat_tables(chunks)
    assert rows["status"].to_pylist() == ["ok", "ok", "ok", "missing"]
    assert rows["empty_fraction"].to_pylist() == [0.0, 0.0, 0.0, None]
    for content in rows["_image_bytes"].to_pylist()[:3]:
        assert decode(content, 1 << 20).shape == (3, 256, 256)
        smooth = fits.HDUList.fromstring(content)[0].data[1].reshape(32, 8, 32, 8).mean(axis=(1, 3))
        peak = np.array(np.unravel_index(smooth.argmax(), smooth.shape))
        assert np.abs(peak - 15.5).max() < 3  # the nucleus, to 10 arcseconds
    classified = Classifier("builtin:gz2-smooth-featured", ClassifyConfig(), 1, "torch", "fp32", 1)(rows)
    assert classified["predicted_class"].to_pylist() == ["featured"] * 3 + [None]
