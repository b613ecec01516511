"""Simulated galaxy images have the right format and resemble real ones."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from galaxy_batch.synthetic.galaxies import KINDS, draw_galaxy
from galaxy_batch.synthetic.rendering import render

SKY = Path(os.environ.get("GALAXY_BATCH_SKY", Path(__file__).parents[2] / "shared" / "sky"))


def pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"), dtype=np.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_renders_as_a_424_px_rgb_jpeg_with_a_central_galaxy(kind: str) -> None:
    index = next(index for index in range(500) if draw_galaxy(index, 0).kind == kind)
    image = Image.open(io.BytesIO(render(index, 0)))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (424, 424))
    light = pixels(render(index, 0)).mean(axis=2)
    assert light[202:222, 202:222].mean() > 4 * np.median(light) + 20


def properties(jpegs: list[bytes]) -> dict[str, float]:
    """Median properties of cutouts: background, noise, and colour, brightness and extent of the galaxy."""
    rows = []
    y, x = np.mgrid[:424, :424] - 211.5
    ring = np.hypot(x, y)
    for jpeg in jpegs:
        image = pixels(jpeg)
        edge = np.concatenate([image[:30].reshape(-1, 3), image[-30:].reshape(-1, 3)])
        level, core, body = np.median(edge, axis=0), image[ring < 12].mean(axis=0), image[ring < 60].mean(axis=0)
        noise = np.abs(edge - level).mean()
        rows.append([len(jpeg), level.mean(), noise, core[1], core[0] / core[1], core[2] / core[1], body[1] / core[1]])
    names = ("bytes", "background", "noise", "core", "red_over_green", "blue_over_green", "extent")
    return dict(zip(names, np.median(rows, axis=0), strict=True))


@pytest.mark.skipif(not (SKY / "gz2" / "images").is_dir(), reason="needs real Galaxy Zoo 2 cutouts (GALAXY_BATCH_SKY)")
def test_cutouts_resemble_real_ones() -> None:
    paths = sorted((SKY / "gz2" / "images").glob("*.jpg"))[:4000:60]
    real, made = (
        properties([path.read_bytes() for path in paths]),
        properties([render(index, 21) for index in range(66)]),
    )
    within = {"background": 1.6, "red_over_green": 1.15, "blue_over_green": 1.2}
    for name, value in real.items():
        factor = within.get(name, 1.35)
        assert value / factor < made[name] < value * factor, f"{name}: {made[name]:.3g} made, {value:.3g} real"
