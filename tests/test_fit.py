import copy

import numpy as np
import pytest
import torch

from galaxy_batch.model import RANDOM, ModelSpec, build_model
from train import fit as fit_module
from train.fit import Examples, fit, predict_logits, symmetry
from train.recipe import FitConfig, Phase

CPU = torch.device("cpu")
SPEC = ModelSpec("test_efficientnet", ("dark", "bright"), 32, 1.0, (0.5,) * 3, (0.5,) * 3)
CONFIG = FitConfig(
    head=Phase(epochs=2, learning_rate=1e-2),
    blocks=Phase(epochs=3, learning_rate=1e-2, blocks=2),
    batch_norm="train",
    batch_size=16,
)


def examples(count: int = 96) -> Examples:
    """Bright and dark squares: a class that anything can learn."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, count)
    pixels = rng.integers(0, 120, (count, 3, 32, 32)) + 100 * labels[:, None, None, None]
    return Examples(torch.from_numpy(pixels.astype(np.uint8)), torch.from_numpy(labels))


def trained(config: FitConfig = CONFIG) -> tuple[torch.Tensor, list[fit_module.Epoch], torch.nn.Module]:
    torch.manual_seed(0)
    model = build_model(SPEC, RANDOM)
    epochs = fit(model, examples(), examples(32), config, CPU)
    return predict_logits(model, examples().pixels, CPU), epochs, model


def test_it_learns_what_can_be_learned() -> None:
    logits, epochs, _ = trained()
    assert [(e.phase, e.number) for e in epochs] == [
        ("head", 1),
        ("head", 2),
        ("blocks", 1),
        ("blocks", 2),
        ("blocks", 3),
    ]
    assert epochs[-1].loss < epochs[0].loss
    assert (logits.argmax(1) == examples().labels).float().mean() > 0.95


def test_the_same_seed_gives_the_same_model_and_another_does_not() -> None:
    first, again = trained()[0], trained()[0]
    other = trained(FitConfig(**{**vars(CONFIG), "seed": 1}))[0]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_keeping_activations_changes_nothing_but_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    config = FitConfig(**{**vars(CONFIG), "batch_norm": "eval"})
    kept = trained(config)[0]
    monkeypatch.setattr(fit_module, "_CACHE_BYTES", 0)
    assert torch.allclose(trained(config)[0], kept, atol=0.05)


def test_the_first_phase_changes_the_head_alone() -> None:
    torch.manual_seed(0)
    model = build_model(SPEC, RANDOM)
    before = copy.deepcopy(model.backbone.state_dict())
    fit(model, examples(), examples(8), FitConfig(head=Phase(1, 1e-2), blocks=Phase(0, 0.0)), CPU)
    changed = {name for name, tensor in model.backbone.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_the_eight_symmetries_are_eight_and_keep_every_pixel() -> None:
    image = torch.arange(2 * 4 * 4).view(1, 2, 4, 4)
    versions = [symmetry(image, number) for number in range(8)]
    assert torch.equal(versions[0], image)
    assert len({tuple(v.flatten().tolist()) for v in versions}) == 8
    for version in versions:
        assert sorted(version.flatten().tolist()) == sorted(image.flatten().tolist())
    assert torch.equal(symmetry(versions[1], 1), image)
