"""A simulated survey of tiles, and the config of a catalog that is cut from it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from galaxy_batch.config import CatalogConfig
from galaxy_batch.settings import parse_config
from galaxy_batch.synthetic.tiles import TILE_RGB, TileSurveyFiles
from tests.support.configs import POSITIONS
from tests.support.models import SavedModel

GALAXIES = 24


def tile_values(files: TileSurveyFiles, **settings: Any) -> dict[str, Any]:
    """`[manifest]` of the survey; `settings` are of `[manifest.tiles]`."""
    tiles = {"band_templates": list(files.templates), "size_column": "petroR90_r", "size_factor": 8.48, "size_px": 64}
    return {"uri": str(files.manifest), **POSITIONS, "tiles": {**tiles, **settings}}


def tile_catalog_config(files: TileSurveyFiles, model: SavedModel, output: Path, **settings: Any) -> CatalogConfig:
    """Chunks of at most 7 rows; `settings` are of `[manifest.tiles]`."""
    values = {
        "release": "made-up",
        "output_uri": str(output),
        "checkpoint_uri": model.uri,
        "max_failed_fraction": 0.9,
        "manifest": tile_values(files, **settings),
        "classify": {"chunk_rows": 7, "rgb": TILE_RGB},
        "report": {"enabled": False},
        "runtime": {"engine": "torch", "num_cpus": 1, "actors": 1},
    }
    return parse_config(CatalogConfig, values)


def write_tile(
    path: Path, centre_deg: tuple[float, float], shape: Sequence[int] = (60, 60), scale_arcsec: float = 1.0,
    angle_deg: float = 0.0,
) -> None:  # fmt: skip
    """A tile of ones with a TAN projection, rotated by an angle."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], centre_deg
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    cos, sin = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    wcs.wcs.cd = np.array([[-cos, sin], [sin, cos]]) * scale_arcsec / 3600
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(np.ones(shape, np.float32), wcs.to_header()).writeto(path, overwrite=True)
