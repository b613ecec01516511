"""Compare two published catalogs of the same sky, and check the changes against gates.

The catalogs themselves are checked by `verify_catalog`, not here.

Memory for each row of each catalog: 40 bytes, 4 for each class, 8 for each bin column, and the id (8 bytes, or the
length of the string); 16 bytes for each matched pair; during matching a hash table of the ids (about 40 bytes a row) or
two k-d trees (about 100 bytes a row); and then 4 bytes for each answer of one question at a time. Ten million rows
against ten million, with one bin column, took 3.9 GB by id and 5.0 GB by position.
"""

import dataclasses
import logging
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from galaxy_batch.catalog.manifest import CatalogManifest, require_manifest
from galaxy_batch.compare.catalog_columns import CatalogColumns, read_columns
from galaxy_batch.compare.class_mix import Labels, Mix, Pairs, bin_mix, class_mix, sky_mix
from galaxy_batch.compare.config import CompareConfig
from galaxy_batch.compare.drift import Shift, find_shift
from galaxy_batch.compare.gates import Measured, judge
from galaxy_batch.compare.matching import match_by_id, match_by_position
from galaxy_batch.compare.questions import QuestionChange, common_questions, question_change, read_fractions
from galaxy_batch.compare.result import CatalogSummary, Comparison, Flip, Matching, Rates
from galaxy_batch.decision_tree import Question
from galaxy_batch.errors import without_secrets
from galaxy_batch.rows import ReviewFlag
from galaxy_batch.stats import share, wilson_interval
from galaxy_batch.storage.files import check_outside

__all__ = ["compare_catalogs"]

logger = logging.getLogger(__name__)

_ERRORS = 3.0  # standard errors that a change in one of many bins must exceed


def compare_catalogs(config: CompareConfig) -> Comparison:
    """Read both catalogs, match their objects, and measure the changes.

    Raises:
        InputError: a catalog does not exist, lacks a column, or cannot be matched as configured, or the output would
            be inside of one.
    """
    for catalog_uri in (config.old_uri, config.new_uri):
        check_outside("output_uri", config.output_uri, catalog_uri)
    manifests = require_manifest(config.old_uri, "old_uri"), require_manifest(config.new_uri, "new_uri")
    classes = tuple(dict.fromkeys(name for manifest in manifests for name in manifest.classes))
    old = read_columns("old_uri", config.old_uri, manifests[0], classes, config.bin_columns)
    new = read_columns("new_uri", config.new_uri, manifests[1], classes, config.bin_columns)
    by_id = config.match == "object_id"
    pairs, matching = match_by_id(old, new) if by_id else match_by_position(old, new, config.radius_arcsec)
    logger.info("%d objects in both, %d only old, %d only new", matching.matched, matching.only_old, matching.only_new)
    return _compared(config, classes, old, new, pairs, matching, _questions(config, manifests, pairs))


def _questions(
    config: CompareConfig, manifests: tuple[CatalogManifest, CatalogManifest], pairs: Pairs
) -> list[QuestionChange]:
    """Changes of the vote fractions, read one question at a time."""
    changes = []
    for question, answers in common_questions(*manifests):
        old = read_fractions("old_uri", config.old_uri, manifests[0], question, answers)
        new = read_fractions("new_uri", config.new_uri, manifests[1], _named(question.name, manifests[1]), answers)
        changes.append(question_change(question.name, answers, (old, new), pairs))
    return changes


def _named(name: str, manifest: CatalogManifest) -> Question:
    return next(question for question in manifest.questions if question.name == name)


def _compared(
    config: CompareConfig,
    classes: tuple[str, ...],
    old: CatalogColumns,
    new: CatalogColumns,
    pairs: Pairs,
    matching: Matching,
    questions: list[QuestionChange],
) -> Comparison:
    labels, number = (old.label, new.label), len(classes)
    transitions = _transitions(old.label[pairs[0]], new.label[pairs[1]], number)
    with_both = transitions[:number, :number]
    compared, flipped = int(with_both.sum()), int(with_both.sum() - np.trace(with_both))
    everyone = np.zeros(len(old), np.int64), np.zeros(len(new), np.int64)
    result = Comparison(
        old=_summary(old),
        new=_summary(new),
        matching=matching,
        classes=classes,
        compared=compared,
        flipped=flipped,
        flip_rate=share(flipped, compared),
        flip_interval=wilson_interval(flipped, compared),
        transitions=transitions,
        flips=_examples(old, new, pairs, classes, config.examples),
        mix=class_mix("all", ["all"], labels, everyone, pairs, number),
        bin_mixes=[
            bin_mix(name, (old.columns[name], new.columns[name]), config.bins, labels, pairs, number)
            for name in config.bin_columns
        ],
        sky=sky_mix((old.pixel, new.pixel), config.min_cell_rows, labels, pairs, number),
        shifts=_shifts(old, new, pairs),
        failed=_rates("no class", old.label < 0, new.label < 0),
        flagged=_rates("any flag", old.flags != 0, new.flags != 0),
        flags=[_rates(str(flag.name), (old.flags & flag) != 0, (new.flags & flag) != 0) for flag in ReviewFlag],
        gates=[],
        questions=questions,
    )
    return dataclasses.replace(result, gates=judge(config.gates, _measured(result)))


def _summary(catalog: CatalogColumns) -> CatalogSummary:
    classified = int((catalog.label >= 0).sum())
    return CatalogSummary(without_secrets(catalog.uri), catalog.release, catalog.model_id, len(catalog), classified)


def _transitions(before: Labels, after: Labels, classes: int) -> npt.NDArray[np.int64]:
    """Matched pairs by old (rows) and new class; the last is without a class."""
    rows, columns = (np.where(label < 0, classes, label).astype(np.int64) for label in (before, after))
    size = classes + 1
    return np.bincount(rows * size + columns, minlength=size**2).reshape(size, size)


def _shifts(old: CatalogColumns, new: CatalogColumns, pairs: Pairs) -> dict[str, Shift]:
    values = {"confidence": (old.confidence, new.confidence)}
    for name in old.classes:
        if name in new.classes:
            values[f"p_{name}"] = old.probabilities[name], new.probabilities[name]
    return {
        name: find_shift(before, after, (before[pairs[0]], after[pairs[1]])) for name, (before, after) in values.items()
    }


def _rates(name: str, old: npt.NDArray[np.bool_], new: npt.NDArray[np.bool_]) -> Rates:
    before, after = int(old.sum()), int(new.sum())
    return Rates(
        name,
        before,
        after,
        old_rate=share(before, len(old)),
        new_rate=share(after, len(new)),
        old_interval=wilson_interval(before, len(old)),
        new_interval=wilson_interval(after, len(new)),
    )


def _examples(
    old: CatalogColumns, new: CatalogColumns, pairs: Pairs, classes: tuple[str, ...], wanted: int
) -> list[Flip]:
    """Changed classes, sorted by the lower of the two confidences, highest first."""
    before, after = old.label[pairs[0]], new.label[pairs[1]]
    flipped = np.flatnonzero((before >= 0) & (after >= 0) & (before != after))
    rows, partners = pairs[0][flipped], pairs[1][flipped]
    lower = np.minimum(old.confidence[rows], new.confidence[partners])
    best = np.argsort(-lower, kind="stable")[:wanted]
    return [
        Flip(
            old_id=str(old.ids[row].as_py()),
            new_id=str(new.ids[partner].as_py()),
            ra=float(old.ra[row]) if old.pixel[row] >= 0 else None,
            dec=float(old.dec[row]) if old.pixel[row] >= 0 else None,
            old_class=classes[old.label[row]],
            old_confidence=float(old.confidence[row]),
            new_class=classes[new.label[partner]],
            new_confidence=float(new.confidence[partner]),
        )
        for row, partner in zip(rows[best].tolist(), partners[best].tolist(), strict=True)
    ]


def _measured(result: Comparison) -> dict[str, Measured]:
    """The number of each gate."""
    matching, change = result.matching, np.abs(result.mix.difference[0])
    known = not np.isnan(change).any()
    largest = int(change.argmax()) if known else 0
    by_position = matching.by == "position"
    return {
        "max_flip_rate": Measured(result.flip_rate, "" if result.compared else "no object has a class in both"),
        "max_psi": _largest({name: shift.psi for name, shift in result.shifts.items()}),
        "max_ks": _largest({name: shift.ks for name, shift in result.shifts.items()}),
        "max_failed_rate_increase": Measured(result.failed.increase),
        "max_flagged_rate_increase": Measured(result.flagged.increase),
        "max_class_share_change": Measured(float(change[largest]), result.classes[largest] if known else ""),
        "max_bin_share_change": _worst_bin([*result.bin_mixes, result.sky]),
        "max_only_old_fraction": Measured(share(matching.only_old, result.old.rows)),
        "max_only_new_fraction": Measured(share(matching.only_new, result.new.rows)),
        "max_ambiguous_fraction": Measured(matching.ambiguous / result.old.rows if by_position else None),
    }


def _largest(values: dict[str, float]) -> Measured:
    """The largest number; nan counts as the largest."""
    name = max(values, key=lambda name: math.inf if math.isnan(values[name]) else values[name])
    return Measured(values[name], name)


def _worst_bin(mixes: Sequence[Mix]) -> Measured:
    grouped = [mix for mix in mixes if mix.groups]
    if not grouped:
        return Measured(None)
    (change, group), of = max(((mix.worst(_ERRORS), mix.of) for mix in grouped), key=lambda change: change[0][0])
    return Measured(change, f"{of} {group}" if group else "")
