import dataclasses

import pytest
import torch

from galaxy_batch.errors import InputError
from galaxy_batch.model.network import RANDOM, ModelSpec, build_model, normalise, symmetry

SPEC = ModelSpec("test_efficientnet", ("smooth", "featured"), 64, 1.0, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def test_normalise_is_the_formula() -> None:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    assert normalise(pixels, (0.5, 0.4, 0.0), (0.5, 0.1, 2.0)).flatten().tolist() == pytest.approx([-1.0, -2.0, 0.5])


def test_the_model_gives_one_logit_per_class() -> None:
    logits = build_model(SPEC, RANDOM)(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    assert logits.shape == (2, 2)


@pytest.mark.parametrize("views", [2, 4, 8])
@torch.inference_mode()
def test_views_are_averaged_as_probabilities(views: int) -> None:
    torch.manual_seed(0)
    one = build_model(SPEC, RANDOM)
    several = build_model(dataclasses.replace(SPEC, views=views), RANDOM)
    several.load_state_dict(one.state_dict())
    pixels = torch.randint(0, 255, (3, 3, 64, 64), dtype=torch.uint8)
    turned = [symmetry(pixels, number) for number in range(0, 8, 8 // views)]
    mean = torch.stack([one(image).softmax(1) for image in turned]).mean(0)
    assert torch.allclose(several(pixels).softmax(1), mean, atol=1e-5)
    if views == 8:
        assert torch.allclose(several(symmetry(pixels, 5)), several(pixels), atol=1e-4)


@pytest.mark.parametrize(("views", "stability_views"), [(1, 1), (1, 4), (2, 1), (8, 4)])
@torch.inference_mode()
def test_predictions_are_the_logits_and_how_far_the_views_differ(views: int, stability_views: int) -> None:
    torch.manual_seed(0)
    model = build_model(dataclasses.replace(SPEC, views=views, classes=("a", "b", "c")), RANDOM)
    torch.nn.init.normal_(model.backbone.get_classifier().weight)
    model.stability_views = stability_views
    pixels = torch.randint(0, 255, (3, 3, 64, 64), dtype=torch.uint8)
    output = model.predict(pixels)
    assert torch.equal(output.class_logits, model(pixels))
    assert output.unfamiliarity.isnan().all()
    compared = views if views > 1 else stability_views
    one = build_model(dataclasses.replace(SPEC, classes=("a", "b", "c")), RANDOM)
    one.load_state_dict(model.state_dict())
    probabilities = torch.stack([one(symmetry(pixels, n)).softmax(1) for n in range(0, 8, 8 // compared)])
    wanted = probabilities.std(0, unbiased=False).amax(1) if compared > 1 else torch.full((3,), torch.nan)
    assert torch.allclose(output.instability, wanted, atol=1e-5, equal_nan=True)
    assert compared == 1 or output.instability.min() > 1e-3


def test_a_new_head_starts_small() -> None:
    state = build_model(SPEC, RANDOM).backbone.state_dict()
    assert 0.005 < state["classifier.weight"].std() < 0.02
    assert not state["classifier.bias"].any()


def test_an_unknown_architecture_is_explained() -> None:
    with pytest.raises(InputError, match="timm has no such model"):
        build_model(ModelSpec("efficientnet_b99", ("a", "b"), 64, 1.0, (0.5,) * 3, (0.5,) * 3), RANDOM)
