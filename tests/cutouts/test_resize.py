import numpy as np
import pytest
import torch
import torch.nn.functional as F

from galaxy_batch.cutouts.resize import Pixels, resize

RANDOM = np.random.default_rng(0)


def noise(height: int, width: int) -> Pixels:
    return RANDOM.integers(0, 256, (3, height, width), np.uint8)


def by_torch(pixels: Pixels, size_px: int) -> Pixels:
    batch = torch.from_numpy(pixels)[None].contiguous(memory_format=torch.channels_last)
    scaled = F.interpolate(batch, (size_px, size_px), mode="bilinear", antialias=True, align_corners=False)
    return scaled[0].numpy()


@pytest.mark.parametrize(
    ("side", "size_px"),
    [(424, 224), (424, 160), (254, 160), (212, 64), (64, 160), (100, 224), (3, 64), (1, 32), (2000, 32), (255, 254)],
)
def test_scaling_gives_the_pixels_of_torch_to_the_last_bit(side: int, size_px: int) -> None:
    for pixels in (noise(side, side), np.full((3, side, side), 255, np.uint8), noise(side, side) // 250 * 255):
        assert np.array_equal(resize(pixels, size_px, 1.0), by_torch(pixels, size_px))


def test_all_sides_give_the_pixels_of_torch() -> None:
    for side in range(20, 500, 7):
        pixels = noise(side, side)
        assert np.array_equal(resize(pixels, 96, 1.0), by_torch(pixels, 96)), side


@pytest.mark.parametrize(("height", "width", "side"), [(424, 424, 339), (423, 423, 338), (100, 60, 48), (33, 500, 26)])
def test_the_central_square_is_scaled(height: int, width: int, side: int) -> None:
    pixels = noise(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[:, top : top + side, left : left + side]
    assert np.array_equal(resize(pixels, None, 0.8), square)
    assert np.array_equal(resize(pixels, 64, 0.8), by_torch(square, 64))
    assert np.array_equal(resize(pixels, side, 0.8), square)


def test_scaling_is_antialiased_and_exact_on_flat_fields() -> None:
    assert np.unique(resize(np.full((3, 424, 424), 77, np.uint8), 224, 1.0)).tolist() == [77]
    stripes = np.zeros((3, 400, 400), np.uint8)
    stripes[..., ::2] = 200
    assert np.abs(resize(stripes, 100, 1.0)[..., 2:-2].astype(int) - 100).max() <= 2
