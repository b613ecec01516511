import numpy as np
import torch

from galaxy_batch.model.network import symmetry
from tests.support.engines import model_of, pixels_of
from train.evaluate.embedding import measure_embedding, pooled_features

CPU = torch.device("cpu")


def test_components_are_those_of_largest_variance() -> None:
    model, pixels = model_of(), pixels_of(60)
    embedding = measure_embedding(model, pixels, CPU, seed=3)
    assert embedding is not None
    components = embedding.components.numpy()
    assert components.shape == (6, 256)
    assert np.allclose(components @ components.T, np.eye(6), atol=1e-5)
    model.embedding = embedding
    projected = np.concatenate([model(symmetry(pixels, number)).embedding.detach().numpy() for number in range(8)])
    variances = projected.var(axis=0)
    assert variances[0] > variances[1:].max()


def test_it_does_not_change_the_logits() -> None:
    model, pixels = model_of(), pixels_of(20)
    before = model(pixels).class_logits
    model.embedding = measure_embedding(model, pixels, CPU, seed=0)
    assert torch.allclose(model(pixels).class_logits, before, atol=1e-5)


def test_too_few_galaxies_have_no_components() -> None:
    assert measure_embedding(model_of(), pixels_of(9), CPU, seed=0) is None


def test_the_head_takes_the_pooled_features() -> None:
    model, pixels = model_of(), pixels_of(70)
    head = model.backbone.get_classifier()
    logits = head(torch.from_numpy(pooled_features(model, pixels)))
    assert torch.allclose(logits, model(pixels).class_logits, atol=1e-5)
