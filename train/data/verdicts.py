"""Verdicts of people as labels of training galaxies.

A verdict takes the place of the votes of a galaxy in the table; a galaxy that the table does not have, or has without
votes, is added to it. Only galaxies of the training set: those that the split assigns to calibration or test keep their
votes or stay out, so that a run with verdicts is measured on the same galaxies as one without.
"""

import dataclasses
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.errors import InputError
from galaxy_batch.review_queue.queue import ARTIFACT, read_queue
from galaxy_batch.reviewed_objects import ReviewedObjects, read_reviewed
from galaxy_batch.rows import IMAGE_BYTES, IMAGE_URI
from galaxy_batch.storage.files import beside, join, read_bytes
from train.config import SplitConfig, VerdictsConfig
from train.data.labels import AMBIGUOUS, Labels
from train.data.splits import split_galaxies

__all__ = ["with_verdicts"]

logger = logging.getLogger(__name__)

_PICTURE = re.compile(r"pictures/\w+/\w+\.\w+")  # below the queue's folder, whatever its table says
_USED, _HELD_OUT, _UNDECIDED = "used", "held_out", "undecided"
_FEW, _UNCERTAIN, _NO_CLASS, _NO_CUTOUT = "few_verdicts", "uncertain", "no_class", "no_cutout"


@dataclass(frozen=True)
class _Decision:
    """What people decided about a galaxy."""

    label: int
    """Position in the classes; AMBIGUOUS for an artifact where that is not a class: the galaxy does not train."""
    probability: float
    table: int
    """Number of the verdict table."""


def with_verdicts(
    galaxies: pa.Table,
    labels: Labels,
    without_votes: pa.Table,
    vote_columns: Sequence[str],
    config: VerdictsConfig,
    split: SplitConfig,
) -> tuple[pa.Table, Labels]:
    """The galaxy table and labels with the verdicts of the training galaxies.

    Args:
        galaxies: the galaxy table.
        labels: of the galaxy table.
        without_votes: galaxies that have a cutout, and no votes; same columns.
        vote_columns: columns of votes, which are zero for added galaxies.
        config: the verdict tables, and which verdicts count.
        split: which galaxies train.

    Returns:
        The table, added galaxies last, and the labels: `weights` has the weight of each galaxy, zero for one that does
        not train, and `verdicts` the origin of the verdicts.

    Raises:
        InputError: a table cannot be read or has a class that is not among those of the labels, or no verdict is used.
    """
    tables = [read_reviewed(uri, "verdicts.uris") for uri in config.uris]
    counts = [Counter[str]() for _ in tables]
    decisions = _decisions(tables, labels.classes, config, split, counts)
    ids = galaxies["object_id"].cast(pa.string()).to_pylist()
    rows = {object_id: row for row, object_id in enumerate(ids) if object_id in decisions}
    others = [object_id for object_id in decisions if object_id not in rows]
    added = _added(galaxies, without_votes, vote_columns, others, config)
    added_ids = added["object_id"].cast(pa.string()).to_pylist()
    rows |= {object_id: len(galaxies) + row for row, object_id in enumerate(added_ids)}
    for object_id, decision in decisions.items():
        name = _NO_CUTOUT if object_id not in rows else _NO_CLASS if decision.label == AMBIGUOUS else _USED
        counts[decision.table][name] += 1
    origins = tuple(_origin(table, count) for table, count in zip(tables, counts, strict=True))
    for origin in origins:
        logger.info("verdicts of %s: %s", origin["uri"], origin["counts"])
    if not any(count[_USED] for count in counts):
        remedy = f"none of these verdicts can train: {'; '.join(str(origin['counts']) for origin in origins)}"
        raise InputError("verdicts.uris", list(config.uris), remedy)
    chosen = {rows[object_id]: decision for object_id, decision in decisions.items() if object_id in rows}
    labels = dataclasses.replace(_relabelled(labels, len(added), chosen, config.weight), verdicts=origins)
    return (_concatenated(galaxies, added) if len(added) else galaxies), labels


def _decisions(
    tables: Sequence[ReviewedObjects],
    classes: Sequence[str],
    config: VerdictsConfig,
    split: SplitConfig,
    counts: Sequence[Counter[str]],
) -> dict[str, _Decision]:
    """The decisions that may train, by id; of several tables with one galaxy, that of the last one named."""
    decisions: dict[str, _Decision] = {}
    for number, table in enumerate(tables):
        numbers = {name: place for place, name in enumerate(classes)} | ({} if ARTIFACT in classes else {ARTIFACT: -1})
        trains = np.zeros(len(table.rows), np.bool_)
        if len(table.rows):
            trains[split_galaxies(table.rows["object_id"], split).train] = True
        columns = ["object_id", "reviewed_class", "reviewed_probability", "verdicts"]
        for row, may_train in zip(table.rows.select(columns).to_pylist(), trains.tolist(), strict=True):
            problem = _problem(row, may_train, config)
            if problem is not None:
                counts[number][problem] += 1
                continue
            name = row["reviewed_class"]
            if name not in numbers:
                raise InputError(
                    "verdicts.uris", table.uri, f"has the class {name}; those of the labels are {', '.join(classes)}"
                )
            object_id = str(row["object_id"])
            if object_id in decisions:
                counts[decisions.pop(object_id).table]["in_a_later_table"] += 1
            label = AMBIGUOUS if numbers[name] < 0 else numbers[name]
            decisions[object_id] = _Decision(label, row["reviewed_probability"], number)
    return decisions


def _problem(row: Mapping[str, Any], may_train: bool, config: VerdictsConfig) -> str | None:
    """Why the verdict on a galaxy is not used."""
    if not may_train:
        return _HELD_OUT
    if row["reviewed_class"] is None:
        return _UNDECIDED
    if row["verdicts"] < config.min_verdicts:
        return _FEW
    return _UNCERTAIN if row["reviewed_probability"] < config.min_probability else None


def _added(
    galaxies: pa.Table, without_votes: pa.Table, vote_columns: Sequence[str], ids: Sequence[str], config: VerdictsConfig
) -> pa.Table:
    """Rows for galaxies that the table does not have: from those without votes, else with the picture of a queue."""
    wanted = pa.array(ids, pa.string())
    spare = without_votes.filter(_is_in(without_votes, wanted))
    taken = set(spare["object_id"].cast(pa.string()).to_pylist())
    pictures = _pictures(config)
    shown = [object_id for object_id in ids if object_id not in taken and object_id in pictures]
    columns: dict[str, pa.Array] = {"object_id": pa.array(shown, pa.string())}
    if IMAGE_URI in galaxies.column_names and galaxies.schema.field(IMAGE_URI).type == pa.string():
        columns[IMAGE_URI] = pa.array([pictures[object_id] for object_id in shown], pa.string())
    else:
        columns[IMAGE_BYTES] = pa.array([_content(pictures[object_id]) for object_id in shown], pa.large_binary())
    added = _concatenated(spare, pa.table(columns)) if shown else spare
    for name in vote_columns:
        zeros = pa.array(np.zeros(len(added)), pa.float64()).cast(galaxies.schema.field(name).type)
        column = pa.chunked_array([zeros])
        added = (
            added.set_column(added.column_names.index(name), name, column)
            if name in added.column_names
            else added.append_column(name, column)
        )
    return added


def _is_in(table: pa.Table, ids: pa.Array) -> pa.ChunkedArray:
    return pc.is_in(table["object_id"].cast(pa.string()), value_set=ids)


def _pictures(config: VerdictsConfig) -> dict[str, str]:
    """URI of the picture of each galaxy of the review queues, by id."""
    pictures: dict[str, str] = {}
    for uri in config.queue_uris or _own_queues(config):
        queue = read_queue(uri, "verdicts.queue_uris")
        if queue is None and config.queue_uris:
            raise InputError("verdicts.queue_uris", uri, "there is no review queue")
        if queue is None or "picture" not in queue.rows.column_names:
            continue
        of_queue = zip(queue.rows["object_id"].to_pylist(), queue.rows["picture"].to_pylist(), strict=True)
        pictures |= {str(one): join(uri, path) for one, path in of_queue if path and _PICTURE.fullmatch(path)}
    return pictures


def _own_queues(config: VerdictsConfig) -> list[str]:
    """The queues that the verdicts were given on, which are beside the folder of verdict tables."""
    uris = []
    for uri in config.uris:
        reviewed = read_reviewed(uri, "verdicts.uris")
        names = [name for name in reviewed.record.get("queues", ()) if re.fullmatch(r"\w[\w.-]*", str(name))]
        uris += [beside(beside(uri), name) for name in names]
    return list(dict.fromkeys(uris))


def _content(uri: str) -> bytes | None:
    """A picture; None where it is missing, which leaves the galaxy out like every other missing cutout."""
    try:
        return read_bytes(uri)
    except FileNotFoundError:
        return None


def _concatenated(galaxies: pa.Table, added: pa.Table) -> pa.Table:
    """Both tables as one with the columns of both; ids as text where not all of them are integers."""
    own = galaxies.schema.field("object_id").type
    try:
        ids = added["object_id"].cast(own)
    except pa.ArrowInvalid:
        galaxies = galaxies.set_column(
            galaxies.column_names.index("object_id"), "object_id", galaxies["object_id"].cast(pa.string())
        )
        ids = added["object_id"].cast(pa.string())
    added = added.set_column(added.column_names.index("object_id"), "object_id", ids)
    return pa.concat_tables([galaxies, added], promote_options="default")


def _relabelled(labels: Labels, added: int, chosen: Mapping[int, _Decision], weight: float) -> Labels:
    """Labels of the table and of added galaxies, with the decisions by row."""
    classes = len(labels.classes)
    label = np.concatenate([labels.label, np.full(added, AMBIGUOUS, labels.label.dtype)])
    votes = np.concatenate([labels.votes, np.zeros((added, classes))])
    weights: npt.NDArray[np.float32] = np.ones(len(label), np.float32)
    for row, decision in chosen.items():
        label[row] = decision.label
        if decision.label == AMBIGUOUS:
            weights[row] = 0
        else:
            votes[row] = (1 - decision.probability) / (classes - 1)
            votes[row, decision.label] = decision.probability
            weights[row] = weight
    return dataclasses.replace(labels, label=label, votes=votes, weights=weights)


def _origin(table: ReviewedObjects, counts: Mapping[str, int]) -> dict[str, Any]:
    """For the checkpoint's provenance: no folders above the catalog, so that equal runs give equal checkpoints."""
    parts = table.uri.split("/")
    release = next((place for place, part in enumerate(parts) if part.startswith("release=")), max(0, len(parts) - 2))
    return {
        "uri": "/".join(parts[release:]),
        "sha256": table.sha256,
        "merge": table.record.get("merge"),
        "objects": len(table.rows),
        "counts": dict(sorted(counts.items())),
    }
