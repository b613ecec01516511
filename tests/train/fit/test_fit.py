import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from galaxy_batch.decision_tree import answer_fractions, known_questions
from galaxy_batch.model.network import build_model
from galaxy_batch.model.spec import RANDOM, ModelSpec
from train.config import FitConfig, Phase
from train.data.galaxies import Examples
from train.fit import frozen_features
from train.fit.fit import Epoch, EpochStore, NoStore, fit, predict, predict_logits
from train.fit.phases import averaging_decay, class_loss, votes_loss

CPU = torch.device("cpu")
SPEC = ModelSpec("test_efficientnet", ("dark", "bright"), 32, 1.0, (0.5,) * 3, (0.5,) * 3)
CONFIG = FitConfig(
    head=Phase(epochs=2, learning_rate=1e-2),
    blocks=Phase(epochs=12, learning_rate=5e-3, blocks=2),
    batch_norm="train",
    batch_size=16,
)


def examples(count: int = 96, questions: int = 0) -> Examples:
    """Bright and dark noise images: trivially separable classes."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, count)
    pixels = rng.integers(0, 120, (count, 3, 32, 32)) + 100 * labels[:, None, None, None]
    targets = torch.eye(2)[labels]
    counts = torch.from_numpy(np.where(labels[:, None] == 1, [30, 8, 2], [4, 32, 4])).float()
    return Examples(
        torch.from_numpy(pixels.astype(np.uint8)),
        targets,
        targets[:, :1] * torch.tensor([0.3, 0.7])[:questions],
        counts,
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


def test_fit_learns_separable_classes() -> None:
    logits, epochs, _ = trained()
    assert [(e.phase, e.number) for e in epochs] == [("head", 1), ("head", 2), *(("blocks", n) for n in range(1, 13))]
    assert epochs[-1].loss < epochs[0].loss
    assert (logits.argmax(1) == examples().targets.argmax(1)).float().mean() > 0.95


def test_the_votes_of_a_question_are_learnt_with_the_classes() -> None:
    torch.manual_seed(0)
    questions = known_questions(["smooth_or_featured"])
    model = build_model(dataclasses.replace(SPEC, questions=questions), RANDOM)
    fit(model, examples(), examples(32), CONFIG, CPU)
    output = predict(model, examples().pixels, CPU)
    expected = examples().question_counts.numpy() / 40
    fractions = answer_fractions(questions, output.concentrations)["smooth_or_featured"]
    assert np.abs(fractions - expected).mean() < 0.1  # 0.25 before training
    assert (output.class_logits.argmax(1) == examples().targets.argmax(1).numpy()).mean() > 0.95


def test_a_weight_counts_as_that_many_galaxies() -> None:
    logits, targets = torch.randn(4, 2, generator=torch.Generator().manual_seed(1)), torch.eye(2)[[0, 1, 1, 0]]
    repeated = [0, 1, 1, 1, 2, 3]
    weighted = class_loss(logits, targets, torch.tensor([1.0, 3.0, 1.0, 1.0]))
    assert float(weighted) == pytest.approx(float(class_loss(logits[repeated], targets[repeated], None)))


def test_galaxies_of_large_weight_decide() -> None:
    """Half of the labels are wrong, and the right ones weigh more."""
    train = examples(96)
    wrong = torch.arange(96) % 2 == 0
    targets = torch.where(wrong[:, None], train.targets.flip(1), train.targets)
    weights = torch.where(wrong, 0.1, 1.0)
    torch.manual_seed(0)
    model = build_model(SPEC, RANDOM)
    fit(model, dataclasses.replace(train, targets=targets, weights=weights), examples(32), CONFIG, CPU)
    logits = predict_logits(model, train.pixels, CPU)
    assert (logits.argmax(1) == train.targets.argmax(1)).float().mean() > 0.9


def test_ambiguous_calibration_galaxies_do_not_count() -> None:
    calibration = examples(32)
    ambiguous = dataclasses.replace(calibration, targets=calibration.targets * torch.tensor([1.0, 0.0]))
    config = dataclasses.replace(CONFIG, blocks=Phase(0, 0.1))
    torch.manual_seed(0)
    epochs = fit(build_model(SPEC, RANDOM), examples(), ambiguous, config, CPU)
    clear = calibration[(calibration.targets[:, 0] == 1).numpy()]
    torch.manual_seed(0)
    again = fit(build_model(SPEC, RANDOM), examples(), clear, config, CPU)
    assert [e.calibration_loss for e in epochs] == [e.calibration_loss for e in again]


@pytest.mark.slow
def test_the_seed_determines_the_model() -> None:
    first, second = trained()[0], trained()[0]
    other = trained(dataclasses.replace(CONFIG, seed=1))[0]
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_kept_activations_change_the_result_by_rounding_only(monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(CONFIG, batch_norm="eval", blocks=Phase(epochs=1, learning_rate=1e-3, blocks=2))
    kept = trained(config)[0]
    monkeypatch.setattr(frozen_features, "_MAX_BYTES", 0)
    assert torch.allclose(trained(config)[0], kept, atol=0.05)


def test_phase_1_changes_only_the_head() -> None:
    torch.manual_seed(0)
    model = build_model(SPEC, RANDOM)
    before = copy.deepcopy(model.backbone.state_dict())
    config = FitConfig(head=Phase(1, 1e-2), blocks=Phase(0, 0.0), batch_norm="train")  # "eval" would fold batch norms
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
def test_each_fit_setting_learns(changes: dict[str, object]) -> None:
    _, epochs, _ = trained(dataclasses.replace(CONFIG, **changes))
    assert epochs[-1].accuracy > 0.9


def test_averaged_weights_get_their_own_batch_norm_statistics() -> None:
    logits, epochs, model = trained(dataclasses.replace(CONFIG, averaging=0.97))
    assert epochs[-1].calibration_accuracy > 0.95
    model.train()
    with torch.no_grad():
        as_trained = model(examples().pixels).class_logits
    assert (as_trained.argmax(1) == logits.argmax(1)).float().mean() > 0.95


class InterruptingStore:
    """Stores states in memory and raises KeyboardInterrupt after some epochs."""

    def __init__(self, state: dict[str, Any] | None = None, epochs: int = 99) -> None:
        self.state, self.left = state, epochs

    def restore(self) -> dict[str, Any] | None:
        return self.state

    def save(self, state: dict[str, Any], epoch: Epoch) -> None:
        self.state = copy.deepcopy(state)
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("completed", [1, 2, 4])
def test_an_interrupted_fit_resumes_with_the_same_result(completed: int) -> None:
    config = dataclasses.replace(CONFIG, averaging=0.8, schedule="cosine")
    uninterrupted, epochs, _ = trained(config)
    store = InterruptingStore(epochs=completed)
    with pytest.raises(KeyboardInterrupt):
        trained(config, store)
    resumed, resumed_epochs, _ = trained(config, InterruptingStore(store.state))
    assert [(e.phase, e.number, e.loss) for e in resumed_epochs] == [(e.phase, e.number, e.loss) for e in epochs]
    assert torch.equal(resumed, uninterrupted)


@pytest.mark.parametrize(
    ("decay", "steps", "expected"), [(0.99, 656, 0.99), (0.99, 30, 5 / 6), (0.99, 3, 0), (0, 9, 0)]
)
def test_averaging_covers_at_most_a_fifth_of_the_steps(decay: float, steps: int, expected: float) -> None:
    bounded = averaging_decay(decay, steps)
    assert bounded == pytest.approx(expected)
    assert bounded ** max(steps - 1, 1) < 0.01, "share of the first step's weights"


def test_averaged_weights_of_few_steps_are_close_to_the_last_ones() -> None:
    blocks = Phase(epochs=5, learning_rate=5e-3, blocks=2)  # 30 steps
    last, averaged = (trained(dataclasses.replace(CONFIG, blocks=blocks, averaging=d))[2] for d in (0.0, 0.99))
    head_only = trained(dataclasses.replace(CONFIG, blocks=dataclasses.replace(blocks, epochs=0)))[2]

    def distance(first: torch.nn.Module, second: torch.nn.Module) -> float:
        pairs = zip(first.parameters(), second.parameters(), strict=True)
        return float(sum((a - b).detach().square().sum() for a, b in pairs)) ** 0.5

    assert distance(averaged, last) < 0.3 * distance(head_only, last)


def test_the_loss_of_votes_is_their_likelihood() -> None:
    concentrations = torch.tensor([[2.0, 1.0, 0.5, 3.0, 1.5], [9.0, 30.0, 1.0, 0.2, 8.0]], dtype=torch.float64)
    counts = torch.tensor([[30.0, 10.0, 0.0, 10.0, 0.0], [5.0, 30.0, 5.0, 20.0, 8.0]], dtype=torch.float64)

    def nll(alpha: torch.Tensor, votes: torch.Tensor) -> torch.Tensor:
        asked = votes.sum(1).numpy().astype(int)
        likelihood = scipy.stats.dirichlet_multinomial.logpmf(votes.numpy().astype(int), alpha.numpy(), asked)
        constant = scipy.stats.multinomial.logpmf(votes.numpy(), asked, np.full(votes.shape, 1.0 / votes.shape[1]))
        return torch.from_numpy(likelihood - constant - asked * np.log(votes.shape[1]))

    expected = -(nll(concentrations[:, :3], counts[:, :3]) + nll(concentrations[:, 3:], counts[:, 3:])) / 40
    assert float(votes_loss(concentrations, counts, (3, 2))) == pytest.approx(float(expected.mean()))
    nobody = votes_loss(concentrations, torch.zeros(2, 5, dtype=torch.float64), (3, 2))
    assert float(nobody) == pytest.approx(0, abs=1e-9)
