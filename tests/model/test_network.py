import dataclasses

import numpy as np
import pytest
import torch

from galaxy_batch.errors import InputError
from galaxy_batch.model.network import build_model, normalise, symmetry
from galaxy_batch.model.spec import RANDOM, ModelSpec
from galaxy_batch.model.views import view_of
from train.evaluate.familiarity import measure_familiarity

SPEC = ModelSpec("test_efficientnet", ("smooth", "featured"), 64, 1.0, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def test_normalise_is_the_formula() -> None:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    assert normalise(pixels, (0.5, 0.4, 0.0), (0.5, 0.1, 2.0)).flatten().tolist() == pytest.approx([-1.0, -2.0, 0.5])


def test_the_model_gives_one_logit_per_class() -> None:
    output = build_model(SPEC, RANDOM)(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    assert output.class_logits.shape == (2, 2)
    assert output.squared_distance.isnan().all()


def test_the_symmetries_of_tensors_are_the_views_of_arrays() -> None:
    pixels = torch.randint(0, 255, (2, 3, 5, 5), dtype=torch.uint8)
    for number in range(8):
        assert np.array_equal(symmetry(pixels, number).numpy(), view_of(pixels.numpy(), number))


@pytest.mark.parametrize(("views", "stability_views"), [(1, 1), (1, 4), (2, 1), (8, 4)])
@torch.inference_mode()
def test_predictions_average_over_views_and_say_how_far_they_differ(views: int, stability_views: int) -> None:
    torch.manual_seed(0)
    model = build_model(dataclasses.replace(SPEC, views=views, classes=("a", "b", "c")), RANDOM)
    torch.nn.init.normal_(model.backbone.get_classifier().weight)
    pixels = torch.randint(0, 255, (3, 3, 64, 64), dtype=torch.uint8)
    model.familiarity = measure_familiarity(model, pixels, torch.device("cpu"), 0)
    output = model.predict(pixels, stability_views)
    compared = views if views > 1 else stability_views
    seen = [model(symmetry(pixels, n)) for n in range(0, 8, 8 // compared)]
    probabilities = torch.stack([one.class_logits.softmax(1) for one in seen])
    mean = torch.from_numpy(output.class_logits).softmax(1)
    assert torch.allclose(mean, probabilities[:views].mean(0), atol=1e-6)
    distance = torch.stack([one.squared_distance for one in seen[:views]]).mean(0).sqrt()
    assert np.allclose(output.unfamiliarity, distance, rtol=1e-5)
    wanted = probabilities.std(0, unbiased=False).amax(1) if compared > 1 else torch.full((3,), torch.nan)
    assert np.allclose(output.instability, wanted, atol=1e-6, equal_nan=True)
    assert compared == 1 or output.instability.min() > 1e-3
    if views == 8:
        turned = model.predict(symmetry(pixels, 5))
        assert np.allclose(turned.class_logits, output.class_logits, atol=1e-4)


def test_a_new_head_starts_small() -> None:
    state = build_model(SPEC, RANDOM).backbone.state_dict()
    assert 0.005 < state["classifier.weight"].std() < 0.02
    assert not state["classifier.bias"].any()


def test_an_unknown_architecture_is_explained() -> None:
    with pytest.raises(InputError, match="timm has no such model"):
        build_model(ModelSpec("efficientnet_b99", ("a", "b"), 64, 1.0, (0.5,) * 3, (0.5,) * 3), RANDOM)
