import numpy as np
import pytest
import torch

from galaxy_batch.model.network import RANDOM, ModelSpec, MorphologyModel, build_model
from train.evaluate.grad_cam import attention_inside_light, galaxy_light, grad_cam, watch_attention

SIZE = 64
HALF = (0.5, 0.5, 0.5)


def model_of(architecture: str = "test_efficientnet", classes: tuple[str, ...] = ("smooth", "featured")):
    torch.manual_seed(0)
    return build_model(ModelSpec(architecture, classes, SIZE, 1.0, HALF, HALF), RANDOM)


@pytest.fixture(scope="module")
def model() -> MorphologyModel:
    return model_of()


def sky_with(*discs: tuple[float, float, float], level: int = 10, noise: float = 2.0, seed: int = 0) -> torch.Tensor:
    """``(3, SIZE, SIZE)`` uint8: a noisy sky with discs of (y, x, radius)."""
    image = np.random.default_rng(seed).normal(level, noise, (SIZE, SIZE))
    y, x = np.mgrid[:SIZE, :SIZE]
    for cy, cx, radius in discs:
        image += 150 * (np.hypot(y - cy, x - cx) <= radius)
    return torch.from_numpy(np.clip(image, 0, 255).astype(np.uint8)).expand(3, -1, -1).contiguous()


CENTRE = (SIZE - 1) / 2
PIXELS = torch.stack(
    [
        sky_with((CENTRE, CENTRE, 10)),
        sky_with((CENTRE, CENTRE, 10), (8, 8, 5)),  # a neighbour that does not touch
        sky_with((8, 8, 5)),  # nothing in the middle
        torch.zeros((3, SIZE, SIZE), dtype=torch.uint8),
    ]
)


def test_light_is_the_central_galaxy_alone() -> None:
    light = galaxy_light(PIXELS)
    areas = light.sum(dim=(1, 2)).tolist()
    disc = np.pi * 10**2
    assert disc * 0.95 <= areas[0] <= disc * 1.35  # the average widens it by a pixel
    assert areas[1] == pytest.approx(areas[0], rel=0.03)
    assert areas[3] == 0
    assert not light[2][:20, :20].any()


def test_light_does_not_depend_on_the_batch() -> None:
    assert torch.equal(galaxy_light(PIXELS[1:2])[0], galaxy_light(PIXELS)[1])
    assert galaxy_light(PIXELS[:0]).shape == (0, SIZE, SIZE)


def test_attention_all_inside_half_inside_and_unknown() -> None:
    light = galaxy_light(PIXELS[:1])[0]
    inside, even, empty = light.float() * 3, torch.ones(SIZE, SIZE), torch.zeros(SIZE, SIZE)
    left = torch.where(light, 1 / light.sum(), 1 / (~light).sum())
    shares = attention_inside_light(torch.stack([inside, even, left, empty]), PIXELS[:1].expand(4, -1, -1, -1))
    assert shares[0] == pytest.approx(1)
    assert shares[1] == pytest.approx(float(light.float().mean()))
    assert shares[2] == pytest.approx(0.5)
    assert np.isnan(shares[3])
    assert np.isnan(attention_inside_light(torch.ones(1, SIZE, SIZE), PIXELS[3:])).all()
    assert np.isnan(attention_inside_light(torch.full((1, SIZE, SIZE), torch.nan), PIXELS[:1])).all()


def test_grad_cam_is_the_formula(model: MorphologyModel) -> None:
    """Mean gradient of the class's logit times the feature map, summed over channels, negatives cut off."""
    classes = np.array([0, 1])
    maps = grad_cam(model, PIXELS[:2], classes)
    assert maps.shape == (2, SIZE, SIZE)
    assert float(maps.min()) >= 0
    kept: list[torch.Tensor] = []
    hook = model.backbone.bn2.register_forward_hook(lambda m, i, out: (out.retain_grad(), kept.append(out))[0])
    logits = model(PIXELS[:2])
    hook.remove()
    logits[[0, 1], classes].sum().backward()
    weights = kept[0].grad.mean(dim=(2, 3), keepdim=True)
    small = (weights * kept[0]).sum(dim=1, keepdim=True).relu()
    expected = torch.nn.functional.interpolate(small, (SIZE, SIZE), mode="bilinear")[:, 0]
    torch.testing.assert_close(maps, expected.detach(), rtol=1e-4, atol=1e-6)


def test_the_class_asked_for_matters_and_nothing_is_left_behind(model: MorphologyModel) -> None:
    model.zero_grad(set_to_none=True)
    before = model(PIXELS).detach()
    first, second = (grad_cam(model, PIXELS, np.full(4, c)) for c in (0, 1))
    assert not torch.allclose(first, second)
    assert all(p.grad is None for p in model.parameters())
    torch.testing.assert_close(model(PIXELS).detach(), before)


@pytest.mark.parametrize("architecture", ["test_resnet", "test_convnext"])
def test_other_networks_have_maps_too(architecture: str) -> None:
    maps = grad_cam(model_of(architecture, ("a", "b", "c")), PIXELS[:2], np.array([2, 0]))
    assert torch.isfinite(maps).all()
    assert float(maps.min()) >= 0


def test_a_network_without_a_feature_map_says_so() -> None:
    spec = ModelSpec("test_vit", ("a", "b"), 160, 1.0, HALF, HALF)
    pixels = torch.nn.functional.interpolate(PIXELS[:1].float(), (160, 160)).to(torch.uint8)
    seen = watch_attention(build_model(spec, RANDOM), pixels, np.array([0]), np.array([True]))
    assert seen.cells == 0
    assert torch.isnan(seen.maps).all()
    assert np.isnan(seen.inside).all()


def test_wrong_predictions_are_looked_at_first(model: MorphologyModel) -> None:
    pixels = PIXELS[:1].expand(30, -1, -1, -1)
    correct = np.ones(30, bool)
    correct[[3, 29]] = False
    seen = watch_attention(model, pixels, np.zeros(30, np.int64), correct, limit=10)
    assert len(seen.rows) == len(set(seen.rows.tolist())) == 10
    assert {3, 29} <= set(seen.rows.tolist())
    assert len(watch_attention(model, pixels, np.zeros(30, np.int64), ~correct, limit=5).rows) == 5
    known = ~np.isnan(seen.inside)
    assert np.array_equal(known, ~np.isnan(seen.area))
    assert seen.area[known] == pytest.approx(float(galaxy_light(PIXELS[:1]).float().mean()))
