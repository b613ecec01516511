"""The audit of a catalog, from the config to the page and `audit.json`.

::

    reviewed.parquet ─> read_verdicts ─┐
                                       ├─> weighted_sample ─> estimate_share of each group ─> page, audit.json
    catalog ─> count_population ───────┘
"""

import itertools
import json
import logging
import math
import posixpath
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.audit.config import AuditConfig
from galaxy_batch.audit.estimate import (
    FINE_BINS,
    NO_ESTIMATE,
    Estimate,
    Sample,
    calibration_error,
    estimate_share,
    represents,
    weighted_sample,
)
from galaxy_batch.audit.page import audit_page
from galaxy_batch.audit.population import (
    FLAG_GROUPS,
    Population,
    class_numbers,
    count_population,
    fine_bins,
    in_flag_group,
)
from galaxy_batch.audit.result import AuditResult, ClassAccuracy, GroupAccuracy, PromisedAccuracy
from galaxy_batch.audit.statement import holds, statement
from galaxy_batch.audit.verdicts import AuditVerdicts, read_verdicts, verdicts_uri
from galaxy_batch.catalog.manifest import CatalogManifest, require_manifest
from galaxy_batch.compare.result import plain
from galaxy_batch.errors import GateError, InputError
from galaxy_batch.review_queue.queue import ARTIFACT, ReviewQueue
from galaxy_batch.rows import ReviewFlag
from galaxy_batch.stats import share
from galaxy_batch.storage.files import beside, check_outside, check_writable, join, without_secrets, write_atomically

__all__ = ["audit_catalog"]

logger = logging.getLogger(__name__)

_AUDIT = ReviewFlag.AUDIT.name  # reason of the draw of this sample
_EDGES = (0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)  # of the bins of confidence; multiples of 1 / FINE_BINS

Mask = npt.NDArray[np.bool_]


def audit_catalog(config: AuditConfig) -> dict[str, Any]:
    """Estimate how good a catalog is, and write the page and `audit.json`.

    Returns:
        `catalog_uri`, `verdicts`, `accuracy`, `accuracy_low`, `accuracy_high`, `expected_accuracy`, `holds`,
        `calibration_error`, `artifact_share`, `undecided`, `gates_crossed`, `report_uri`, `audit_uri`, `seconds`; None
        for what cannot be estimated.

    Raises:
        InputError: there is no such catalog, or there are no verdicts on it.
        GateError: the accuracy is below `min_accuracy`, or cannot be estimated.
    """
    started = time.monotonic()
    manifest = require_manifest(config.catalog_uri)
    name = posixpath.basename(verdicts_uri(config).rstrip("/"))
    folder = config.report_uri or beside(config.catalog_uri, "audit", name)
    check_outside("report_uri", folder, config.catalog_uri)
    check_writable(folder, field="report_uri")
    result = _audited(config, manifest, read_verdicts(config, manifest))
    json_uri, page_uri = join(folder, "audit.json"), join(folder, "index.html")
    write_atomically(json_uri, (json.dumps({"format": 1, **plain(result)}, allow_nan=False) + "\n").encode())
    write_atomically(page_uri, audit_page(result).encode())
    logger.info("%s", result.statement)
    logger.info("page of the audit: %s", without_secrets(page_uri))
    crossed = config.min_accuracy is not None and not result.accuracy.high >= config.min_accuracy
    summary = {
        "catalog_uri": result.catalog_uri,
        "verdicts": result.verdicts,
        "accuracy": plain(result.accuracy.value),
        "accuracy_low": plain(result.accuracy.low),
        "accuracy_high": plain(result.accuracy.high),
        "expected_accuracy": plain(result.expected_accuracy),
        "holds": result.holds,
        "calibration_error": plain(result.calibration_error.value),
        "artifact_share": plain(result.artifact_share.value),
        "undecided": result.undecided,
        "gates_crossed": ["min_accuracy"] if crossed else [],
        "report_uri": without_secrets(page_uri),
        "audit_uri": without_secrets(json_uri),
        "seconds": round(time.monotonic() - started, 3),
    }
    if crossed:
        shown = f"at most {result.accuracy.high:.4g}" if result.accuracy.known else "not known"
        raise GateError(f"min_accuracy: the accuracy is {shown}, the limit is {config.min_accuracy:g}", summary)
    return summary


@dataclass(frozen=True)
class _Reviewed:
    """The rows of the catalog with a verdict; arrays are ``(n,)``."""

    sample: Sample
    predicted: npt.NDArray[np.int64]
    verdict: npt.NDArray[np.int64]
    """Number of the class; -1 for an artifact or undecided."""
    artifact: Mask
    decided: Mask
    """Whether people give it a class, or call it an artifact."""
    confidence: npt.NDArray[np.float64]
    bins: npt.NDArray[np.int64]
    flags: npt.NDArray[np.int32]
    covered: bool
    """Whether every row of the catalog with a class could be drawn."""

    @property
    def galaxy(self) -> Mask:
        """Whether people give it a class."""
        return self.verdict >= 0

    @property
    def correct(self) -> Mask:
        """Whether this is the predicted class."""
        return np.asarray(self.verdict == self.predicted, np.bool_)

    def accuracy(self, member: Mask, rows: int) -> Estimate:
        """Of a group of this many rows of the catalog, of which some are members of the sample."""
        return self.share(member, self.galaxy, self.correct, rows)

    def share(self, member: Mask, counted: Mask, hit: Mask, rows: int) -> Estimate:
        """The share of hits among the members that count; of a group of this many rows of the catalog."""
        if not (self.covered or represents(self.sample.probability[member], rows)):
            return NO_ESTIMATE
        return estimate_share(self.sample, member & counted, hit)


def _audited(config: AuditConfig, manifest: CatalogManifest, verdicts: AuditVerdicts) -> AuditResult:
    population, found = count_population(config.catalog_uri, manifest, verdicts.rows["object_id"].combine_chunks())
    left_out = dict(verdicts.left_out)
    with_class = found.filter(found["predicted_class"].is_valid())
    left_out["not in the catalog"] = len(verdicts.rows) - len(found)
    left_out["without a class in the catalog"] = len(found) - len(with_class)
    if not len(with_class):
        reasons = ", ".join(f"{count} {reason}" for reason, count in verdicts.left_out.items())
        remedy = f"no verdict is on a row of the catalog that counts{': ' if reasons else ''}{reasons}"
        if "without an inclusion probability" in verdicts.left_out:
            remedy += "; name the review queue of the verdicts, by --queue NAME"
        raise InputError("verdicts_uri", verdicts_uri(config), remedy)
    reviewed = _reviewed(with_class, verdicts, population)
    everything, classified = np.ones(len(with_class), np.bool_), population.classified
    reason = "" if reviewed.covered else _NOT_COVERED
    accuracy = NO_ESTIMATE if reason else reviewed.accuracy(everything, classified)
    mean = share(population.confidence.sum(), classified)
    expected = mean + _difference_of_galaxies(reviewed) if accuracy.known else mean
    bins = tuple(_bins(reviewed, population))
    undecided = ~reviewed.decided
    return AuditResult(
        catalog_uri=without_secrets(config.catalog_uri),
        release=manifest.release,
        model_id=manifest.model_id,
        queue=verdicts.queue.name if verdicts.queue else None,
        rows=population.rows,
        classified=classified,
        queued=len(verdicts.queue.rows) if verdicts.queue else None,
        looked_at=len(with_class),
        verdicts=int(reviewed.galaxy.sum()),
        artifacts=int(reviewed.artifact.sum()),
        undecided=int(undecided.sum()),
        min_probability=config.min_probability,
        left_out={name: count for name, count in left_out.items() if count},
        not_covered=reason,
        accuracy=accuracy,
        expected_accuracy=expected,
        holds=holds(accuracy, expected, config.tolerance),
        statement=statement(accuracy, expected, config.tolerance, reason),
        accuracy_if_undecided_wrong=math.nan
        if reason
        else estimate_share(reviewed.sample, ~reviewed.artifact, reviewed.correct).value,
        calibration_error=NO_ESTIMATE if reason else _calibration_error(bins),
        promised=PromisedAccuracy.of(manifest.checkpoint),
        artifact_share=NO_ESTIMATE
        if reason
        else reviewed.share(everything, reviewed.decided, reviewed.artifact, classified),
        undecided_share=NO_ESTIMATE if reason else reviewed.share(everything, everything, undecided, classified),
        classes=tuple(_classes(reviewed, population, bool(reason))),
        bins=bins,
        flags=tuple(_flags(reviewed, population)),
    )


_NOT_COVERED = (
    "the verdicts are only on galaxies that were drawn for a reason, and the others could not be drawn. Add a random "
    "draw (optimal, uniform, per_class, stratified or audit) to the queue"
)


def _reviewed(rows: pa.Table, verdicts: AuditVerdicts, population: Population) -> _Reviewed:
    """The rows of the catalog with their verdicts and weights."""
    place = pc.index_in(rows["object_id"], value_set=verdicts.rows["object_id"].combine_chunks())
    given = verdicts.rows.take(place)
    probability = given["probability"].to_numpy().astype(np.float64)
    predicted, bins = class_numbers(rows, population.classes), fine_bins(rows)
    verdict = class_numbers(given, population.classes, "verdict")
    artifact = (verdict < 0) & np.asarray(pc.fill_null(pc.equal(given["verdict"], ARTIFACT), False).to_numpy())
    covered = represents(probability, population.classified)
    if verdicts.queue is not None:
        covered = _draws_everything(verdicts.queue, population.classified) or (covered and probability.min() == 1)
    return _Reviewed(
        sample=weighted_sample(probability, predicted, bins, population.counts if covered else None),
        predicted=predicted,
        verdict=verdict,
        artifact=artifact,
        decided=artifact | (verdict >= 0),
        confidence=rows["confidence"].to_numpy().astype(np.float64),
        bins=bins,
        flags=rows["review_flags"].to_numpy(),
        covered=covered,
    )


def _draws_everything(queue: ReviewQueue, classified: int) -> bool:
    """Whether one of the queue's draws gives every row with a class a chance."""
    by_reason = itertools.groupby(queue.record["draws"], key=lambda draw: draw["reason"])
    if any(draw["reason"] == _AUDIT and draw["probability"] for draw in queue.record["draws"]):
        return True  # the catalog's own sample, whose population is only what it drew
    return any(
        sum(draw["population"] for draw in draws if draw["probability"]) >= classified
        for draws in (list(draws) for _, draws in by_reason)
    )


def _difference_of_galaxies(reviewed: _Reviewed) -> float:
    """Mean confidence of the rows that people give a class, minus that of all: artifacts have less."""
    weight = reviewed.sample.weight
    means = [float(np.average(reviewed.confidence[of], weights=weight[of])) for of in (reviewed.galaxy, weight > 0)]
    return means[0] - means[1]


def _bins(reviewed: _Reviewed, population: Population) -> Iterator[GroupAccuracy]:
    """Accuracy by confidence; bins without rows are left out."""
    for low, high in itertools.pairwise(_EDGES):
        first, last = round(low * FINE_BINS), round(high * FINE_BINS)
        rows = int(population.counts[:, first:last].sum())
        if rows:
            confidence = population.confidence[:, first:last].sum() / rows
            member = (reviewed.bins >= first) & (reviewed.bins < last)
            yield GroupAccuracy(f"{low:g} to {high:g}", rows, float(confidence), reviewed.accuracy(member, rows))


def _flags(reviewed: _Reviewed, population: Population) -> Iterator[GroupAccuracy]:
    """Accuracy by flag; flags without rows are left out."""
    for name in FLAG_GROUPS:
        rows = population.flags[name]
        if rows:
            accuracy = reviewed.accuracy(in_flag_group(reviewed.flags, name), rows)
            yield GroupAccuracy(name, rows, population.flag_confidence[name] / rows, accuracy)


def _classes(reviewed: _Reviewed, population: Population, refused: bool) -> Iterator[ClassAccuracy]:
    for number, name in enumerate(population.classes):
        rows, called = int(population.counts[number].sum()), reviewed.verdict == number
        whole = NO_ESTIMATE, NO_ESTIMATE
        if not refused:
            whole = (
                estimate_share(reviewed.sample, called, reviewed.correct),
                estimate_share(reviewed.sample, reviewed.decided, called),
            )
        confidence = share(float(population.confidence[number].sum()), rows)
        yield ClassAccuracy(name, rows, confidence, reviewed.accuracy(reviewed.predicted == number, rows), *whole)


def _calibration_error(bins: tuple[GroupAccuracy, ...]) -> Estimate:
    known = [group for group in bins if group.accuracy.known]
    return calibration_error(
        np.array([float(group.rows) for group in known]),
        np.array([group.accuracy.value - group.confidence for group in known]),
        np.array([(group.accuracy.high - group.accuracy.low) / (2 * 1.96) for group in known]),
    )
