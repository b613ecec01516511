import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from galaxy_batch.model.network import RANDOM, ModelSpec, build_model
from train.config import FitConfig, Phase
from train.fit import frozen_features as features
from train.fit.fit import Epoch, EpochStore, NoStore, fit, predict_logits
from train.fit.frozen_features import Examples

CPU = torch.device("cpu")
SPEC = ModelSpec("test_efficientnet", ("dark", "bright"), 32, 1.0, (0.5,) * 3, (0.5,) * 3)
CONFIG = FitConfig(
    head=Phase(epochs=2, learning_rate=1e-2),
    blocks=Phase(epochs=12, learning_rate=5e-3, blocks=2),
    batch_norm="train",
    batch_size=16,
)


def examples(count: int = 96, questions: int = 0) -> Examples:
    """Bright and dark squares: a class that anything can learn."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, count)
    pixels = rng.integers(0, 120, (count, 3, 32, 32)) + 100 * labels[:, None, None, None]
    targets = torch.eye(2)[labels]
    return Examples(
        torch.from_numpy(pixels.astype(np.uint8)), targets, targets[:, :1] * torch.tensor([0.3, 0.7])[:questions]
    )


def trained(
    config: FitConfig = CONFIG, store: EpochStore | None = None
) -> tuple[torch.Tensor, list[Epoch], torch.nn.Module]:
    torch.manual_seed(0)
    model = build_model(SPEC, RANDOM)
    epochs = fit(
        model, examples(questions=sum(config.auxiliary_sizes)), examples(32), config, CPU, store=store or NoStore()
    )
    return predict_logits(model, examples().pixels, CPU), epochs, model


def test_it_learns_what_can_be_learned() -> None:
    logits, epochs, _ = trained()
    assert [(e.phase, e.number) for e in epochs] == [("head", 1), ("head", 2), *(("blocks", n) for n in range(1, 13))]
    assert epochs[-1].loss < epochs[0].loss
    assert (logits.argmax(1) == examples().targets.argmax(1)).float().mean() > 0.95


def test_the_same_seed_gives_the_same_model_and_another_does_not() -> None:
    first, again = trained()[0], trained()[0]
    other = trained(dataclasses.replace(CONFIG, seed=1))[0]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_keeping_activations_changes_nothing_but_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(CONFIG, batch_norm="eval", blocks=Phase(epochs=1, learning_rate=1e-3, blocks=2))
    kept = trained(config)[0]
    monkeypatch.setattr(features, "_KEPT_BYTES", 0)
    assert torch.allclose(trained(config)[0], kept, atol=0.05)


def test_the_first_phase_changes_the_head_alone() -> None:
    torch.manual_seed(0)
    model = build_model(SPEC, RANDOM)
    before = copy.deepcopy(model.backbone.state_dict())
    config = FitConfig(head=Phase(1, 1e-2), blocks=Phase(0, 0.0), batch_norm="train")  # "eval" folds them first
    fit(model, examples(), examples(8), config, CPU)
    changed = {name for name, tensor in model.backbone.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "cosine"},
        {"averaging": 0.8},
        {"auxiliary_questions": (("a", "b"),)},
        {"symmetries": 1},
        {"blocks": Phase(epochs=6, learning_rate=1e-2, blocks=99)},
    ],
    ids=str,
)
def test_every_way_of_learning_learns(changes: dict[str, object]) -> None:
    _, epochs, _ = trained(dataclasses.replace(CONFIG, **changes))
    assert epochs[-1].accuracy > 0.9


def test_averaged_weights_get_batch_statistics_of_their_own() -> None:
    """Those that were gathered on the way belong to other weights."""
    logits, epochs, model = trained(dataclasses.replace(CONFIG, averaging=0.97))
    assert epochs[-1].calibration_accuracy > 0.95
    model.train()
    with torch.no_grad():
        as_trained = model(examples().pixels)
    assert (as_trained.argmax(1) == logits.argmax(1)).float().mean() > 0.95


class Memory:
    """Keeps states, and can die after one."""

    def __init__(self, state: dict[str, Any] | None = None, dies_after: int = 99) -> None:
        self.state, self.left = state, dies_after

    def restore(self) -> dict[str, Any] | None:
        return self.state

    def save(self, state: dict[str, Any], epoch: Epoch) -> None:
        self.state = copy.deepcopy(state)
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("dies_after", [1, 2, 4])
def test_a_fit_that_died_goes_on_as_if_nothing_had_happened(dies_after: int) -> None:
    config = dataclasses.replace(CONFIG, averaging=0.8, schedule="cosine")
    whole, epochs, _ = trained(config)
    memory = Memory(dies_after=dies_after)
    with pytest.raises(KeyboardInterrupt):
        trained(config, memory)
    resumed, again, _ = trained(config, Memory(memory.state))
    assert [(e.phase, e.number, e.loss) for e in again] == [(e.phase, e.number, e.loss) for e in epochs]
    assert torch.equal(resumed, whole)
