import numpy as np
import pytest
import torch

from galaxy_batch.model.grad_cam import fine_grad_cam, grad_cam
from galaxy_batch.model.network import MorphologyModel
from tests.support.models import MODEL_SIZE_PX, random_model

SIZE = MODEL_SIZE_PX
PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (4, 3, SIZE, SIZE)).astype(np.uint8))


@pytest.fixture(scope="module")
def model() -> MorphologyModel:
    return random_model()


def test_grad_cam_equals_its_definition(model: MorphologyModel) -> None:
    """Feature map weighted by the mean gradient of the class logit, summed over channels, clipped at zero."""
    classes = np.array([0, 1])
    maps = grad_cam(model, PIXELS[:2], classes)
    assert maps is not None
    assert float(maps.max()) > 0
    kept: list[torch.Tensor] = []
    hook = model.backbone.bn2.register_forward_hook(lambda m, i, out: (out.retain_grad(), kept.append(out))[0])
    logits = model(PIXELS[:2]).class_logits
    hook.remove()
    logits[[0, 1], classes].sum().backward()
    weights = kept[0].grad.mean(dim=(2, 3), keepdim=True)
    expected = (weights * kept[0]).sum(dim=1).relu()
    torch.testing.assert_close(maps, expected.detach(), rtol=1e-4, atol=1e-6)


def test_grad_cam_depends_on_the_class_and_leaves_the_model_unchanged(model: MorphologyModel) -> None:
    model.zero_grad(set_to_none=True)
    before = model(PIXELS).class_logits.detach()
    first, second = (grad_cam(model, PIXELS, np.full(4, c)) for c in (0, 1))
    assert first is not None
    assert not torch.allclose(first, second)
    assert all(p.grad is None for p in model.parameters())
    torch.testing.assert_close(model(PIXELS).class_logits.detach(), before)


@pytest.mark.parametrize("architecture", ["test_resnet", "test_convnext"])
def test_grad_cam_of_other_architectures(architecture: str) -> None:
    maps = grad_cam(random_model(architecture, ("a", "b", "c")), PIXELS[:2], np.array([2, 0]))
    assert maps is not None
    assert maps.shape[1] == maps.shape[2] > 1
    assert torch.isfinite(maps).all()
    assert float(maps.min()) >= 0


def test_the_fine_map_equals_its_definition(model: MorphologyModel) -> None:
    """Gradient times activation of the stage with cells of 8 px, times the last layer's map; largest value 1."""
    classes = np.array([1, 0])
    fine, coarse = fine_grad_cam(model, PIXELS[:2], classes), grad_cam(model, PIXELS[:2], classes)
    assert fine is not None
    assert coarse is not None
    assert fine.shape == (2, SIZE // 8, SIZE // 8)
    assert coarse.shape == (2, SIZE // 32, SIZE // 32)
    kept: list[torch.Tensor] = []
    hook = model.backbone.blocks[2].register_forward_hook(lambda m, i, out: (out.retain_grad(), kept.append(out))[0])
    logits = model(PIXELS[:2]).class_logits
    hook.remove()
    logits[[0, 1], classes].sum().backward()
    of_stage = (kept[0].grad * kept[0]).sum(dim=1).relu().detach()
    spread = torch.nn.functional.interpolate(coarse[:, None], (SIZE // 8, SIZE // 8), mode="bilinear")[:, 0]
    expected = of_stage * spread
    torch.testing.assert_close(fine, expected / expected.amax(dim=(1, 2), keepdim=True), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("architecture", "cells"), [("test_resnet", 8), ("test_convnext", 8), ("test_vit", None)])
def test_the_fine_map_of_other_architectures(architecture: str, cells: int | None) -> None:
    size = SIZE if cells else 160
    pixels = torch.nn.functional.interpolate(PIXELS[:2].float(), (size, size)).to(torch.uint8)
    maps = fine_grad_cam(random_model(architecture, ("a", "b", "c")), pixels, np.array([2, 0]))
    assert (None if maps is None else maps.shape[1]) == cells
    assert maps is None or (torch.isfinite(maps).all() and float(maps.max()) <= 1)


def test_no_galaxies(model: MorphologyModel) -> None:
    for method in (grad_cam, fine_grad_cam):
        maps = method(model, PIXELS[:0], np.zeros(0, np.int64))
        assert maps is not None
        assert len(maps) == 0
