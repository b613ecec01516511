import numpy as np
import pytest
import torch

from galaxy_batch.model.network import build_model, symmetry
from galaxy_batch.model.spec import RANDOM, ModelSpec
from train.config import FitConfig, Phase
from train.fit import frozen_features
from train.fit.frozen_features import FrozenFeatures
from train.fit.layers import Layers

CONFIG = FitConfig(head=Phase(10, 1e-3), blocks=Phase(3, 1e-3, blocks=2))


def test_the_eight_symmetries_differ_and_keep_every_pixel() -> None:
    image = torch.arange(2 * 4 * 4).view(1, 2, 4, 4)
    versions = [symmetry(image, number) for number in range(8)]
    assert torch.equal(versions[0], image)
    assert len({tuple(v.flatten().tolist()) for v in versions}) == 8
    for version in versions:
        assert sorted(version.flatten().tolist()) == sorted(image.flatten().tolist())
    assert torch.equal(symmetry(versions[1], 1), image)


@pytest.mark.parametrize("phase", [CONFIG.head, CONFIG.blocks], ids=["head", "blocks"])
def test_kept_features_equal_computed_ones(monkeypatch: pytest.MonkeyPatch, phase: Phase) -> None:
    torch.manual_seed(0)
    layers = Layers(build_model(ModelSpec("test_efficientnet", ("a", "b"), 32, 1.0, (0.5,) * 3, (0.5,) * 3), RANDOM))
    pixels = torch.randint(0, 255, (70, 3, 32, 32), dtype=torch.uint8)
    kept = FrozenFeatures(layers, pixels, CONFIG, torch.device("cpu"))
    monkeypatch.setattr(frozen_features, "_MAX_BYTES", 0)
    computed = FrozenFeatures(layers, pixels, CONFIG, torch.device("cpu"))
    assert (len(kept.kept), len(computed.kept)) == (2, 0)
    rows = np.array([3, 69, 0])
    batches = []
    for epoch in range(3):
        batches.append(kept.batch(rows, epoch, phase))
        assert torch.allclose(batches[-1], computed.batch(rows, epoch, phase), rtol=2e-3, atol=1e-3)
    assert not torch.equal(batches[0], batches[1]), "each epoch uses another symmetry"


def test_each_galaxy_passes_through_all_symmetries() -> None:
    torch.manual_seed(0)
    layers = Layers(build_model(ModelSpec("test_efficientnet", ("a", "b"), 32, 1.0, (0.5,) * 3, (0.5,) * 3), RANDOM))
    pixels = torch.zeros(50, 3, 32, 32, dtype=torch.uint8)
    order = FrozenFeatures(layers, pixels, CONFIG, torch.device("cpu")).order
    assert all(sorted(row) == list(range(8)) for row in order.tolist())
    assert len({tuple(row) for row in order.tolist()}) > 40
