"""Simulated reviews: how the accuracy grows with the number of verdicts, by the way in which galaxies are chosen.

The votes of the training galaxies are hidden. A simulated reviewer who is shown one of them gives one answer, drawn
from its votes, so that ambiguous galaxies get unreliable verdicts, as they do from people. Each round trains a new
model on all verdicts so far, and chooses with it the galaxies of the next round. All models are tested on the same
held-out galaxies.
"""

import dataclasses
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from galaxy_batch.model.network import MorphologyModel
from galaxy_batch.model.views import margin
from galaxy_batch.report.figures import embed
from galaxy_batch.report.page import percent, render
from galaxy_batch.storage.files import join, read_bytes, without_secrets, write_atomically, write_json
from train.config import SimulationConfig, Strategy
from train.data.galaxies import Examples, load_part, new_model, read_galaxies
from train.data.labels import AMBIGUOUS, Labels
from train.data.splits import split_galaxies
from train.evaluate.embedding import pooled_features
from train.fit.fit import first_view_logits, fit, predict_logits
from train.report.figures import verdict_curves

__all__ = ["Round", "choose_galaxies", "simulate_reviews", "simulated_answers"]

logger = logging.getLogger(__name__)

NO_CLASS = -1
"""Answer of a reviewer who sees none of the classes."""

Ints = npt.NDArray[np.int64]
Curve = list[tuple[int, float, float]]

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Round:
    """One model of a simulation."""

    strategy: str
    seed: int
    verdicts: int
    """Galaxies looked at so far."""
    labelled: int
    """Those of them that have a class."""
    accuracy: float
    """On the held-out galaxies that have a label."""


@dataclass(frozen=True)
class _Galaxies:
    """What all rounds share."""

    pool: Examples
    votes: npt.NDArray[np.float64]
    """Vote fractions of the pool, ``(N, classes)``."""
    labels: Labels
    test: Examples
    test_labels: Ints


def simulate_reviews(config: SimulationConfig) -> dict[str, Any]:
    """Simulate each strategy with each seed; write `simulation.json` and a page; returns the job's summary.

    A simulation that was interrupted goes on: finished rounds of the same config are read again.

    Raises:
        InputError: as `train_model`.
    """
    started = time.monotonic()
    torch.set_num_threads(config.threads or torch.get_num_threads())
    galaxies = _load(config)
    rounds: list[Round] = []
    for seed in config.seeds:
        answers = simulated_answers(galaxies.votes, seed)
        for strategy in config.strategies:
            rounds += _simulate(config, galaxies, answers, strategy, seed)
    curves: dict[str, Curve] = {strategy: _mean_curve(rounds, strategy) for strategy in config.strategies}
    needed: dict[str, float | None] = {
        strategy: _verdicts_needed(curves, strategy, config.strategies[0]) for strategy in config.strategies
    }
    content = {
        "test_galaxies": len(galaxies.test_labels),
        "pool": len(galaxies.votes),
        "rounds": [dataclasses.asdict(one) for one in rounds],
        "verdicts_needed": needed,
    }
    write_json(join(config.output_uri, "simulation.json"), content)
    report_uri = join(config.output_uri, "index.html")
    write_atomically(report_uri, _page(config, galaxies, rounds, curves, needed).encode())
    return {
        "report_uri": without_secrets(report_uri),
        "accuracy": {strategy: {str(n): mean for n, mean, _ in curve} for strategy, curve in curves.items()},
        "verdicts_needed": needed,
        "seconds": round(time.monotonic() - started, 3),
    }


def simulated_answers(votes: npt.NDArray[np.float64], seed: int) -> Ints:
    """One answer for each galaxy, ``(N,)``, drawn from its vote fractions ``(N, classes)``; or NO_CLASS."""
    drawn = np.random.default_rng((seed, len(votes))).random(len(votes))
    upper = votes.cumsum(axis=1)
    answer = (drawn[:, None] >= upper).sum(axis=1)
    return np.where(answer < votes.shape[1], answer, NO_CLASS).astype(np.int64)


def choose_galaxies(
    strategy: Strategy,
    count: int,
    seen: Ints,
    margins: npt.NDArray[np.float32],
    features: npt.NDArray[np.float32],
    seed: int,
) -> Ints:
    """The galaxies to look at next, ``(count,)``, none of which has been seen.

    Args:
        strategy: `random`; `uncertain`: those with the smallest margin; `diverse`: one after the other, the galaxy that
            is farthest from all that were seen or chosen (k-center greedy, Sener & Savarese 2018, ICLR).
        count: how many.
        seen: galaxies looked at so far.
        margins: difference of the two highest logits of each galaxy, ``(N,)``.
        features: of each galaxy, ``(N, F)``.
        seed: of random choices.
    """
    unseen = np.setdiff1d(np.arange(len(margins)), seen)
    if strategy == "random":
        return np.random.default_rng((seed, len(seen))).permutation(unseen)[:count]
    if strategy == "uncertain":
        return unseen[np.argsort(margins[unseen], kind="stable")[:count]]
    squares = np.einsum("ij,ij->i", features, features)
    nearest = np.full(len(features), np.inf, np.float32)
    for start in range(0, len(seen), 256):
        some = seen[start : start + 256]
        distances = squares[:, None] + squares[some] - 2 * features @ features[some].T
        nearest = np.minimum(nearest, distances.min(axis=1))
    chosen = []
    for _ in range(min(count, len(unseen))):
        nearest[seen] = -np.inf
        farthest = int(nearest.argmax())
        chosen.append(farthest)
        distances = squares + squares[farthest] - 2 * features @ features[farthest]
        nearest = np.minimum(nearest, distances)
        nearest[farthest] = -np.inf
    return np.array(chosen, np.int64)


def _load(config: SimulationConfig) -> _Galaxies:
    table, labels = read_galaxies(config)
    split = split_galaxies(table["object_id"], config.split)
    pool = load_part(config, table, labels, split.train, learns=False)
    test = load_part(config, table, labels, split.test, learns=False)
    clear = labels.label[test.rows] != AMBIGUOUS
    return _Galaxies(
        pool=pool.examples,
        votes=labels.votes[pool.rows],
        labels=labels,
        test=test.examples[clear],
        test_labels=labels.label[test.rows][clear],
    )


def _simulate(
    config: SimulationConfig, galaxies: _Galaxies, answers: Ints, strategy: Strategy, seed: int
) -> list[Round]:
    """All rounds of one strategy and seed."""
    uri = join(config.output_uri, f"rounds/{strategy}-{seed}.json")
    finished = _finished(uri, config)
    if finished is not None:
        return finished
    rounds: list[Round] = []
    seen = np.empty(0, np.int64)
    model: MorphologyModel | None = None
    for verdicts in config.rounds:
        if model is None:
            seen = np.random.default_rng((seed, 0)).permutation(len(answers))[:verdicts]
        else:
            seen = np.concatenate([seen, _chosen(model, galaxies, strategy, verdicts - len(seen), seen, seed)])
        model = _fit(config, galaxies, answers, seen, seed)
        logits = predict_logits(model, galaxies.test.pixels, _CPU).numpy()
        accuracy = float((logits.argmax(axis=1) == galaxies.test_labels).mean())
        rounds.append(Round(strategy, seed, len(seen), int((answers[seen] != NO_CLASS).sum()), accuracy))
        logger.info("%s, seed %d: %d verdicts, accuracy %.4f", strategy, seed, len(seen), accuracy)
    write_json(uri, {"config": _settings(config), "rounds": [dataclasses.asdict(one) for one in rounds]})
    return rounds


def _chosen(model: MorphologyModel, galaxies: _Galaxies, strategy: Strategy, count: int, seen: Ints, seed: int) -> Ints:
    """The galaxies of the next round; only what the strategy needs is computed."""
    margins = np.zeros(len(galaxies.votes), np.float32)
    features = np.empty((len(margins), 0), np.float32)
    if strategy == "uncertain":
        margins = margin(first_view_logits(model, galaxies.pool.pixels, _CPU))
    elif strategy == "diverse":
        features = pooled_features(model, galaxies.pool.pixels)
    return choose_galaxies(strategy, count, seen, margins, features, seed)


def _fit(config: SimulationConfig, galaxies: _Galaxies, answers: Ints, seen: Ints, seed: int) -> MorphologyModel:
    """A new model, trained on the answers for the galaxies seen."""
    mask = np.zeros(len(answers), np.bool_)
    mask[seen] = True
    mask &= answers != NO_CLASS
    examples = galaxies.pool[mask]
    targets = torch.eye(galaxies.votes.shape[1])[torch.from_numpy(answers[mask])]
    settings = dataclasses.replace(config.fit, seed=seed)
    model = new_model(dataclasses.replace(config, fit=settings), galaxies.labels)
    nobody = galaxies.test[np.zeros(len(galaxies.test_labels), np.bool_)]
    fit(model, dataclasses.replace(examples, targets=targets), nobody, settings, _CPU)
    return model


def _finished(uri: str, config: SimulationConfig) -> list[Round] | None:
    try:
        content = json.loads(read_bytes(uri))
    except FileNotFoundError:
        return None
    return [Round(**one) for one in content["rounds"]] if content["config"] == _settings(config) else None


def _settings(config: SimulationConfig) -> dict[str, Any]:
    """What the rounds depend on, as JSON has it; not which strategies and seeds run beside."""
    left_out = {"strategies", "seeds", "threads", "output_uri"}
    values = {name: value for name, value in dataclasses.asdict(config).items() if name not in left_out}
    settings: dict[str, Any] = json.loads(json.dumps(values))
    return settings


def _mean_curve(rounds: Sequence[Round], strategy: str) -> Curve:
    """Verdicts, mean accuracy and its standard deviation over the seeds, of each round."""
    values: dict[int, list[float]] = {}
    for one in rounds:
        if one.strategy == strategy:
            values.setdefault(one.verdicts, []).append(one.accuracy)
    return [(n, float(np.mean(some)), float(np.std(some, ddof=min(1, len(some) - 1)))) for n, some in values.items()]


def _verdicts_needed(curves: Mapping[str, Curve], strategy: str, reference: str) -> float | None:
    """Verdicts with which the strategy is as accurate as the reference with all; between rounds by interpolation."""
    wanted = curves[reference][-1][1]
    previous: tuple[int, float] | None = None
    for verdicts, accuracy, _ in curves[strategy]:
        if accuracy >= wanted:
            if previous is None:
                return float(verdicts)
            share = (wanted - previous[1]) / (accuracy - previous[1])
            return round(float(np.exp(np.log(previous[0]) + share * (np.log(verdicts) - np.log(previous[0])))), 1)
        previous = verdicts, accuracy
    return None


def _page(
    config: SimulationConfig,
    galaxies: _Galaxies,
    rounds: Sequence[Round],
    curves: Mapping[str, Curve],
    needed: Mapping[str, float | None],
) -> str:
    most = config.rounds[-1]
    return render(
        "train.report",
        "simulation.html",
        title="Simulated reviews",
        about=[("network", config.network.architecture), ("test galaxies", f"{len(galaxies.test_labels):,}")],
        headline=[
            (f"{strategy} first" if strategy != "random" else "random", percent(curve[-1][1]), f"{most:,} verdicts")
            for strategy, curve in curves.items()
        ],
        curves=embed(lambda width_px: verdict_curves(width_px, curves), "Accuracy by number of verdicts."),
        header=["verdicts", *config.strategies],
        rows=[
            [
                f"{verdicts:,}",
                *(f"{percent(curve[number][1])} ± {100 * curve[number][2]:.1f}" for curve in curves.values()),
            ]
            for number, verdicts in enumerate(config.rounds)
        ],
        reference=config.strategies[0],
        needed={name: None if count is None else f"{count:,.0f}" for name, count in needed.items()},
        most=f"{most:,}",
        seeds=len({one.seed for one in rounds}),
    )
