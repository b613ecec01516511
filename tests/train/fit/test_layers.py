import pytest
import torch
from torch import nn

from galaxy_batch.model.network import MorphologyModel, build_model
from galaxy_batch.model.spec import RANDOM, ModelSpec
from train.fit.layers import Layers

BACKBONES = ["test_efficientnet", "tf_efficientnet_lite0", "test_resnet", "test_vit"]


def model_of(architecture: str) -> MorphologyModel:
    torch.manual_seed(0)
    size = 160 if architecture == "test_vit" else 64
    return build_model(ModelSpec(architecture, ("a", "b"), size, 1.0, (0.5,) * 3, (0.5,) * 3), RANDOM)


@pytest.mark.parametrize("architecture", BACKBONES)
@pytest.mark.parametrize("blocks", [0, 1, 3, 99])
@torch.inference_mode()
def test_frozen_and_trainable_part_make_the_whole_model(architecture: str, blocks: int) -> None:
    model = model_of(architecture)
    pixels = torch.randint(0, 255, (2, 3, model.spec.size_px, model.spec.size_px), dtype=torch.uint8)
    layers = Layers(model)
    features = layers.pooled(layers.frozen(pixels, blocks), blocks)
    assert features.shape == (2, layers.features)
    assert torch.allclose(layers.head(features), model(pixels).class_logits, atol=1e-5)


def test_set_learning_makes_only_the_last_blocks_trainable() -> None:
    model = model_of("tf_efficientnet_lite0")
    layers = Layers(model)

    def learning() -> set[str]:
        return {name.rsplit(".", 1)[0] for name, p in model.backbone.named_parameters() if p.requires_grad}

    layers.set_learning(0, batch_norm_train=False)
    assert learning() == {"classifier"}
    layers.set_learning(3, batch_norm_train=False)
    assert {".".join(name.split(".")[:2]) for name in learning()} == {
        "blocks.4", "blocks.5", "blocks.6", "conv_head", "bn2", "classifier",
    }  # fmt: skip
    layers.set_learning(99, batch_norm_train=False)
    assert all(p.requires_grad for p in model.backbone.parameters())


@pytest.mark.parametrize("train", [False, True])
def test_batch_norm_of_frozen_blocks_stays_in_eval_mode(train: bool) -> None:
    model = model_of("test_efficientnet")
    layers = Layers(model)
    layers.set_learning(1, batch_norm_train=train)
    norms = {name: m for name, m in model.backbone.named_modules() if isinstance(m, nn.BatchNorm2d)}
    frozen = [m for name, m in norms.items() if name.startswith(("bn1", "blocks.0"))]
    assert frozen
    assert not any(m.training for m in frozen)
    assert norms["bn2"].training is train


@pytest.mark.parametrize("architecture", BACKBONES)
def test_folding_batch_norms_keeps_the_output(architecture: str) -> None:
    model = model_of(architecture)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):  # non-trivial, as after training
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias, std=0.1)
        nn.init.normal_(norm.running_mean, std=0.1)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    pixels = torch.randint(0, 255, (2, 3, model.spec.size_px, model.spec.size_px), dtype=torch.uint8)
    layers = Layers(model)
    with torch.inference_mode():
        before = model(pixels).class_logits
    layers.fold_batch_norms()
    with torch.inference_mode():
        assert torch.allclose(model(pixels).class_logits, before, rtol=1e-3, atol=1e-5)
    assert layers.folded is ("efficientnet" in architecture)
    layers.set_learning(2, batch_norm_train=False)
    if layers.folded:
        scales = [m.weight for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        assert all(torch.equal(scale, torch.ones_like(scale)) and not scale.requires_grad for scale in scales)
