import numpy as np
import pytest
import torch

from galaxy_batch.model.network import MorphologyModel, build_model
from galaxy_batch.model.spec import RANDOM, ModelSpec
from tests.support.models import MODEL_SIZE_PX, random_model
from train.evaluate.grad_cam import galaxy_mask, sample_grad_cam, share_on_mask

SIZE = MODEL_SIZE_PX
HALF = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def model() -> MorphologyModel:
    return random_model()


def sky_with(*discs: tuple[float, float, float], level: int = 10, noise: float = 2.0, seed: int = 0) -> torch.Tensor:
    """``(3, SIZE, SIZE)`` uint8: noisy sky with discs of (y, x, radius)."""
    image = np.random.default_rng(seed).normal(level, noise, (SIZE, SIZE))
    y, x = np.mgrid[:SIZE, :SIZE]
    for cy, cx, radius in discs:
        image += 150 * (np.hypot(y - cy, x - cx) <= radius)
    return torch.from_numpy(np.clip(image, 0, 255).astype(np.uint8)).expand(3, -1, -1).contiguous()


CENTRE = (SIZE - 1) / 2
PIXELS = torch.stack(
    [
        sky_with((CENTRE, CENTRE, 10)),
        sky_with((CENTRE, CENTRE, 10), (8, 8, 5)),  # with a separate neighbour
        sky_with((8, 8, 5)),  # no galaxy at the centre
        torch.zeros((3, SIZE, SIZE), dtype=torch.uint8),
    ]
)


def test_mask_covers_the_central_galaxy_only() -> None:
    masks = galaxy_mask(PIXELS)
    areas = masks.sum(dim=(1, 2)).tolist()
    disc = np.pi * 10**2
    assert disc * 0.95 <= areas[0] <= disc * 1.35  # smoothing widens the disc by a pixel
    assert areas[1] == pytest.approx(areas[0], rel=0.03)
    assert areas[3] == 0
    assert not masks[2][:20, :20].any()


def test_mask_does_not_depend_on_the_batch() -> None:
    assert torch.equal(galaxy_mask(PIXELS[1:2])[0], galaxy_mask(PIXELS)[1])
    assert galaxy_mask(PIXELS[:0]).shape == (0, SIZE, SIZE)


def test_share_on_mask_all_uniform_half_and_undefined() -> None:
    mask = galaxy_mask(PIXELS[:1])[0]
    inside, uniform, empty = mask.float() * 3, torch.ones(SIZE, SIZE), torch.zeros(SIZE, SIZE)
    half = torch.where(mask, 1 / mask.sum(), 1 / (~mask).sum())
    shares = share_on_mask(torch.stack([inside, uniform, half, empty]), mask.expand(4, -1, -1))
    assert shares[0] == pytest.approx(1)
    assert shares[1] == pytest.approx(float(mask.float().mean()))
    assert shares[2] == pytest.approx(0.5)
    assert np.isnan(shares[3])
    assert np.isnan(share_on_mask(torch.ones(1, SIZE, SIZE), galaxy_mask(PIXELS[3:]))).all()
    assert np.isnan(share_on_mask(torch.full((1, SIZE, SIZE), torch.nan), mask[None])).all()


def test_network_without_a_feature_map() -> None:
    spec = ModelSpec("test_vit", ("a", "b"), 160, 1.0, HALF, HALF)
    pixels = torch.nn.functional.interpolate(PIXELS[:1].float(), (160, 160)).to(torch.uint8)
    sample = sample_grad_cam(build_model(spec, RANDOM), pixels, np.array([0]), np.array([True]))
    assert sample.cells == 0
    assert torch.isnan(sample.maps).all()
    assert np.isnan(sample.inside).all()


def test_wrong_predictions_are_sampled_first(model: MorphologyModel) -> None:
    pixels = PIXELS[:1].expand(30, -1, -1, -1)
    correct = np.ones(30, bool)
    correct[[3, 29]] = False
    sample = sample_grad_cam(model, pixels, np.zeros(30, np.int64), correct, limit=10)
    assert len(sample.rows) == len(set(sample.rows.tolist())) == 10
    assert {3, 29} <= set(sample.rows.tolist())
    assert len(sample_grad_cam(model, pixels, np.zeros(30, np.int64), ~correct, limit=5).rows) == 5
    known = ~np.isnan(sample.inside)
    assert np.array_equal(known, ~np.isnan(sample.area))
    assert sample.area[known] == pytest.approx(float(galaxy_mask(PIXELS[:1]).float().mean()))
