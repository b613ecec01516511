"""Simulated reviews: galaxies with known classes, queues drawn from them, and tables of verdicts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.optimize import brentq

from galaxy_batch.audit.estimate import FINE_BINS, Sample, weighted_sample
from galaxy_batch.review_queue.allocation import optimal_allocation
from galaxy_batch.review_queue.config import ReviewQueueConfig
from galaxy_batch.review_queue.queue import read_queue
from galaxy_batch.review_queue.review_queue import make_queue

DESIGNS = ("uniform", "stratified", "optimal", "audit", "union")

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class KnownGalaxies:
    """Galaxies with predicted and true classes, 0 or 1; arrays are ``(N,)``."""

    confidence: Floats
    predicted: Ints
    true: Ints

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.true == self.predicted, np.bool_)

    @property
    def fine_bin(self) -> Ints:
        return np.clip((self.confidence * FINE_BINS).astype(np.int64), 0, FINE_BINS - 1)

    @property
    def counts(self) -> Ints:
        """``(classes, FINE_BINS)``."""
        counts = np.zeros((2, FINE_BINS), np.int64)
        np.add.at(counts, (self.predicted, self.fine_bin), 1)
        return counts


@dataclass(frozen=True)
class KnownCatalog:
    """A published catalog, its rows with a class, and what people would say about each."""

    path: Path
    rows: pd.DataFrame
    verdicts: dict[int, str]

    @property
    def accuracy(self) -> float:
        """Of the galaxies; artifacts have no class."""
        verdicts = self.rows["object_id"].map(self.verdicts)
        galaxies = verdicts != "artifact"
        return float((verdicts == self.rows["predicted_class"])[galaxies].mean())

    def queue(self, name: str, **draws: object) -> None:
        make_queue(ReviewQueueConfig(str(self.path), name=name, **draws))  # type: ignore[arg-type]


def known_galaxies(count: int, accuracy: float, seed: int, overconfidence: float = 1.0) -> KnownGalaxies:
    """Galaxies of which about this share is classified correctly.

    Args:
        count: galaxies.
        accuracy: share of the correct ones.
        seed: of the random numbers.
        overconfidence: the stated logits are these times the true ones; 1: the confidence is right.
    """
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.3, 1, count)

    def probability(scale: float) -> Floats:
        return np.asarray(1 / (1 + np.exp(-scale * np.abs(logits))), np.float64)

    scale = brentq(lambda scale: probability(scale).mean() - accuracy, 1e-3, 1e4)
    predicted = (logits > 0).astype(np.int64)
    correct = rng.random(count) < probability(scale)
    confidence = probability(scale * overconfidence)
    return KnownGalaxies(confidence, predicted, np.where(correct, predicted, 1 - predicted))


def draw(design: str, size: int, galaxies: KnownGalaxies, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """One queue: the drawn galaxies, and the inclusion probabilities of all, ``(N,)``.

    Args:
        design: of `DESIGNS`. `union`: a uniform sample, the 5% least confident and the `size` least confident.
        size: galaxies, of the random part.
        galaxies: to draw from.
        rng: random numbers.
    """
    count = len(galaxies.confidence)
    probability = np.full(count, size / count)
    if design == "audit":
        return np.flatnonzero(rng.random(count) < probability), probability
    if design in ("stratified", "optimal"):
        stratum = galaxies.predicted * 10 + (galaxies.confidence * 10).astype(np.int64)
        strata, number = np.unique(stratum, return_inverse=True)
        rows = np.bincount(number)
        each = np.minimum(max(1, size // len(strata)), rows)
        if design == "optimal":
            each = optimal_allocation(size, rows, np.bincount(number, galaxies.confidence) / rows)
        keys = np.lexsort((rng.random(count), number))
        rank = np.empty(count, np.int64)
        rank[keys] = np.arange(count) - np.repeat(np.cumsum(rows) - rows, rows)
        return np.flatnonzero(rank < each[number]), (each / rows)[number]
    drawn = np.zeros(count, np.bool_)
    drawn[rng.choice(count, size, replace=False)] = True
    if design == "union":
        order = np.argsort(galaxies.confidence, kind="stable")
        certain = order[: max(size, count // 20)]
        probability[certain], drawn[certain] = 1, True
    return np.flatnonzero(drawn), probability


def sample_of(galaxies: KnownGalaxies, drawn: Ints, probability: Floats) -> Sample:
    """The drawn galaxies with their weights."""
    return weighted_sample(probability[drawn], galaxies.predicted[drawn], galaxies.fine_bin[drawn], galaxies.counts)


def write_verdicts(
    catalog: Path, queue: str, verdicts: Mapping[Any, str | None], share: float = 1, **columns: Sequence[Any]
) -> Path:
    """Tables of verdicts on the first part of a queue, as `import_verdicts` writes them; returns their folder.

    Args:
        catalog: its folder.
        queue: its name.
        verdicts: class, `artifact` or None (undecided) of each object.
        share: of the queue that has verdicts.
        columns: other values of columns of `reviewed.parquet`.
    """
    read = read_queue(str(catalog.parent / "review" / queue))
    assert read is not None
    rows = read.rows.slice(0, round(share * len(read.rows)))
    count, of_catalog = len(rows), read.record["catalog"]
    given = {
        "object_id": rows["object_id"],
        "reviewed_class": pa.array([verdicts.get(each) for each in rows["object_id"].to_pylist()], pa.string()),
        "reviewed_probability": pa.array(np.ones(count)),
        "verdicts": pa.array(np.ones(count, np.int32)),
        "reviewed_by": pa.array(["reviewer-0"] * count),
        "reviewed_at": pa.nulls(count, pa.timestamp("us", tz="UTC")),
        "inclusion_probability": rows["inclusion_probability"],
        "reason": rows["reason"],
        "release": pa.array([of_catalog["release"]] * count),
        "model_id": pa.array([of_catalog["model_id"]] * count),
        **{name: pa.array(values) for name, values in columns.items()},
    }
    folder = catalog.parent / "review" / "verdicts" / queue
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(given), folder / "reviewed.parquet")
    (folder / "import.json").write_text(json.dumps({"format": 1, "queues": [queue]}))
    return folder
