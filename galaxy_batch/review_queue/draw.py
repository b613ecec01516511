"""Which galaxies of a catalog get into a queue, why, and with which probability.

A draw divides some of the galaxies that have an image into strata, and takes those with the lowest keys of each. The
keys of a random draw are a hash of the id, seeded by the draw and the config: every sample of a stratum is equally
probable, draws are independent, and none depends on where a row is in the catalog. A galaxy to which draws give the
probabilities p_k is in their union with 1 - prod(1 - p_k), whichever of them drew it: the inclusion probability of
Horvitz and Thompson (1952, JASA 47, 663).

The catalog is read twice, a row group at a time: the columns that decide, then all columns of the drawn rows.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.catalog.read_files import read_row_group, row_groups
from galaxy_batch.errors import InputError
from galaxy_batch.export.query import Condition
from galaxy_batch.release_page.sampling import GroupSampler, RowLocation
from galaxy_batch.review_queue.allocation import optimal_allocation
from galaxy_batch.review_queue.config import ReviewQueueConfig
from galaxy_batch.rows import ReviewFlag, Status, flag_names
from galaxy_batch.runtime.progress import with_progress

__all__ = ["INCLUSION", "REASON", "Drawing", "DrawnRows", "draw_rows", "id_keys"]

REASON, INCLUSION = "reason", "inclusion_probability"

_DECIDING = ("object_id", "status", "predicted_class", "confidence", "review_flags")
_NUMBER = "_number_in_group"

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DrawnRows:
    """Rows of a catalog with `reason` and `inclusion_probability`, and how each draw came out."""

    rows: pa.Table
    draws: list[dict[str, Any]]
    """For each draw and stratum: `reason`, `stratum` (where there are several), `population`, `drawn`, `probability`
    (None where it is not at random)."""


@dataclass
class _Draw:
    """One way to draw galaxies."""

    reason: str
    size: int
    """Most rows of each stratum; about those of all strata together where `optimal`."""
    strata: Sequence[str]
    stratum_of: Callable[[pa.Table], Ints]
    """Number of each row's stratum, ``(N,)``; negative where the draw cannot draw it."""
    keys_of: Callable[[pa.Table], Keys]
    probability: float | None = None
    """Of every galaxy; None where it follows from the size of the strata."""
    at_random: bool = True
    """False where the keys are a property of the galaxy: what is not drawn could not have been."""
    optimal: bool = False
    """Whether the strata share the rows, see `optimal_allocation`."""

    def __post_init__(self) -> None:
        self.population: Ints = np.zeros(len(self.strata), np.int64)
        self._confidence: Floats = np.zeros(len(self.strata))
        self._sampler = GroupSampler(len(self.strata), self.size, 0, np.uint64)

    def add(self, rows: pa.Table, usable: npt.NDArray[np.bool_], file: int, row_group: int) -> None:
        """Offer the rows of a row group."""
        stratum = np.where(usable, self.stratum_of(rows), -1)
        offered = np.flatnonzero(stratum >= 0)
        confidence = pc.fill_null(rows["confidence"], 0).to_numpy()
        self.population += np.bincount(stratum[offered], minlength=len(self.strata))
        self._confidence += np.bincount(stratum[offered], confidence[offered], len(self.strata))
        keys = np.zeros(len(rows), np.uint64)
        keys[offered] = self.keys_of(rows.take(offered))
        self._sampler.add(stratum, file, row_group, keys)

    def sizes(self) -> Ints:
        """Rows to draw of each stratum, after all rows have been offered."""
        if not self.optimal:
            return np.minimum(self.size, self.population)
        return optimal_allocation(self.size, self.population, self._confidence / np.maximum(self.population, 1))

    def drawn(self) -> list[list[RowLocation]]:
        """The drawn rows of each stratum."""
        return [self._sampler.sample([stratum])[:size] for stratum, size in enumerate(self.sizes().tolist())]

    def probabilities(self, rows: pa.Table, drawn: npt.NDArray[np.bool_]) -> Floats:
        """The probability that this draw gives each row, ``(N,)``.

        Args:
            rows: with images.
            drawn: whether this draw has drawn the row, ``(N,)``.
        """
        if not self.at_random:
            return drawn.astype(np.float64)
        if self.probability is not None:
            return np.full(len(rows), self.probability)
        of_stratum = self.sizes() / np.maximum(self.population, 1)
        stratum = self.stratum_of(rows)
        return np.where(stratum >= 0, of_stratum[stratum], 0.0)

    def record(self) -> list[dict[str, Any]]:
        """An entry for each stratum."""
        entries = []
        for name, population, size in zip(self.strata, self.population.tolist(), self.sizes().tolist(), strict=True):
            probability = self.probability
            if self.at_random and probability is None:
                probability = size / population if population else None
            entries.append(
                {"reason": self.reason}
                | ({"stratum": name} if name else {})
                | {"population": population, "drawn": size, "probability": probability}
            )
        return entries


class Drawing:
    """The draws of a config on one catalog.

    Args:
        config: what is drawn.
        manifest: of the catalog.
        schema: columns of the catalog.

    Raises:
        InputError: there is no such flag, `where` is not a condition on a row, or the catalog has no audit sample.
    """

    def __init__(self, config: ReviewQueueConfig, manifest: CatalogManifest, schema: pa.Schema) -> None:
        self._config, self._classes = config, manifest.classes
        self._condition = Condition(config.where, schema) if config.where is not None else None
        self.draws = list(self._draws(manifest))
        used = self._condition.columns if self._condition else ()
        self.columns = list(dict.fromkeys((*_DECIDING, *used)))
        """Columns that decide."""

    def add(self, rows: pa.Table, file: int, row_group: int) -> None:
        """Offer the rows of a row group."""
        usable = pc.and_(pc.equal(rows["status"], str(Status.OK)), rows["predicted_class"].is_valid())
        for draw in self.draws:
            draw.add(rows, pc.fill_null(usable, False).to_numpy(), file, row_group)

    def rows(self, read: Callable[[Sequence[RowLocation]], pa.Table]) -> DrawnRows:
        """The rows that were drawn, in any order.

        Args:
            read: gives the rows at sorted locations of the catalog, in this order.

        Raises:
            InputError: there are none, or more than `max_rows`.
        """
        places = [[place for stratum in draw.drawn() for place in stratum] for draw in self.draws]
        union = sorted(set(itertools.chain(*places)))
        self._check(len(union))
        rows = read(union)
        numbers = {place: number for number, place in enumerate(union)}
        missed = np.ones(len(rows))
        reasons: list[list[str]] = [[] for _ in union]
        for draw, drawn_places in zip(self.draws, places, strict=True):
            drawn = np.zeros(len(rows), np.bool_)
            drawn[[numbers[place] for place in drawn_places]] = True
            missed *= 1 - draw.probabilities(rows, drawn)
            for number in np.flatnonzero(drawn).tolist():
                reasons[number].append(self._reason(draw, rows["review_flags"][number].as_py()))
        rows = rows.append_column(REASON, pa.array(["; ".join(names) for names in reasons], pa.string()))
        rows = rows.append_column(INCLUSION, pa.array(1 - missed))
        return DrawnRows(rows, [entry for draw in self.draws for entry in draw.record()])

    def _check(self, count: int) -> None:
        if not count:
            raise InputError("catalog_uri", self._config.catalog_uri, "no galaxy with an image is drawn")
        if count > self._config.max_rows:
            remedy = "more galaxies are drawn: draw fewer, e.g. by flags_rows or where_rows, or raise max_rows"
            raise InputError("max_rows", self._config.max_rows, remedy)

    def _reason(self, draw: _Draw, flags: int) -> str:
        if draw.reason != "flags":
            return draw.reason
        return "; ".join(name for name in flag_names(flags) if name in self._config.flags)

    def _draws(self, manifest: CatalogManifest) -> Iterable[_Draw]:
        config = self._config
        unlimited = config.max_rows + 1  # more are refused
        if config.flags:
            bits = _bits(config.flags)
            yield self._random("flags", config.flags_rows or unlimited, [""], lambda rows: _where(_has(rows, bits)))
        if self._condition is not None:
            matching = self._condition
            size = config.where_rows or unlimited
            yield self._random("where", size, [""], lambda rows: _where(_matches(rows, matching)))
        if config.least_confident is not None:
            yield _Draw("least_confident", config.least_confident, [""], _everywhere, _least_confident, at_random=False)
        if config.uniform is not None:
            yield self._random("uniform", config.uniform, [""], _everywhere)
        if config.per_class is not None:
            yield self._random("per_class", config.per_class, self._classes, self._class_of)
        strata = [f"{name}, confidence {bin_}" for name in self._classes for bin_ in _bins(config.confidence_edges)]
        if config.stratified is not None:
            yield self._random("stratified", config.stratified, strata, self._class_and_bin_of)
        if config.optimal is not None:
            yield replace(self._random("optimal", config.optimal, strata, self._class_and_bin_of), optimal=True)
        if config.audit:
            fraction = manifest.review_limits.audit_fraction
            if not fraction:
                raise InputError("audit", config.audit, "the catalog has no audit sample: its audit_fraction is 0")
            audited = self._random("AUDIT", unlimited, [""], lambda rows: _where(_has(rows, ReviewFlag.AUDIT)))
            yield replace(audited, probability=fraction)

    def _random(self, reason: str, size: int, strata: Sequence[str], stratum_of: Callable[[pa.Table], Ints]) -> _Draw:
        return _Draw(
            reason, size, strata, stratum_of, lambda rows: id_keys(rows["object_id"], reason, self._config.seed)
        )

    def _class_of(self, rows: pa.Table) -> Ints:
        return _index(rows["predicted_class"], self._classes)

    def _class_and_bin_of(self, rows: pa.Table) -> Ints:
        edges = np.array(self._config.confidence_edges, np.float32)
        of_class = self._class_of(rows)
        of_bin = np.searchsorted(edges, pc.fill_null(rows["confidence"], 0).to_numpy(), side="right")
        return np.where(of_class >= 0, of_class * (len(edges) + 1) + of_bin, -1)


def draw_rows(
    config: ReviewQueueConfig, manifest: CatalogManifest, schema: pa.Schema, columns: Sequence[str]
) -> DrawnRows:
    """Draw rows of a published catalog; memory is that of one row group and of the drawn rows.

    Args:
        config: what is drawn, and the catalog's folder.
        manifest: of the catalog.
        schema: columns of the catalog.
        columns: to read of the drawn rows.

    Raises:
        InputError: as `Drawing`, or a file of the catalog is missing or damaged.
    """
    drawing = Drawing(config, manifest, schema)
    files = list(enumerate(manifest.files))
    for number, file in with_progress(files, "drawing", manifest.rows, lambda entry: entry[1].rows):
        for group, rows in row_groups(config.catalog_uri, file, drawing.columns):
            drawing.add(rows, number, group)
    wanted = list(dict.fromkeys((*columns, *drawing.columns)))

    def read(places: Sequence[RowLocation]) -> pa.Table:
        tables = []
        for (number, group), of_group in itertools.groupby(places, key=itemgetter(0, 1)):
            table = read_row_group(config.catalog_uri, manifest.files[number], group, wanted)
            tables.append(table.take([place.row for place in of_group]).replace_schema_metadata(None))
        return pa.concat_tables(tables)

    return drawing.rows(read)


def id_keys(ids: pa.ChunkedArray, purpose: str, seed: int) -> Keys:
    """A pseudo-random number of each id, ``(N,)``: SipHash of its text, with a key from the purpose and the seed."""
    key = hashlib.blake2b(f"{purpose} {seed}".encode(), digest_size=8).hexdigest()
    texts = ids.cast(pa.string()).to_numpy().astype(object)
    return np.asarray(pd.util.hash_array(texts, hash_key=key, categorize=False), np.uint64)


def _least_confident(rows: pa.Table) -> Keys:
    """Keys in the order of confidence; equal ones in that of a hash that no seed changes."""
    confidence = pc.fill_null(rows["confidence"], 1).to_numpy().astype(np.float32)
    keys: Keys = np.maximum(confidence, 0).view(np.uint32).astype(np.uint64)  # ordered as numbers that are not negative
    keys <<= np.uint64(32)
    keys |= id_keys(rows["object_id"], "least_confident", 0) >> np.uint64(32)
    return keys


def _everywhere(rows: pa.Table) -> Ints:
    return np.zeros(len(rows), np.int64)


def _where(mask: npt.NDArray[np.bool_]) -> Ints:
    return np.where(mask, 0, -1)


def _bits(names: Sequence[str]) -> int:
    """The flags of these names."""
    drawn = {str(flag.name): flag for flag in ReviewFlag if flag is not ReviewFlag.UNREADABLE}
    for name in names:
        if name == ReviewFlag.UNREADABLE.name:
            raise InputError("flags", name, "these galaxies have no image to look at")
        if name not in drawn:
            raise InputError("flags", name, f"no such flag; the flags are {', '.join(drawn)}")
    return sum(drawn[name] for name in set(names))


def _has(rows: pa.Table, bits: int) -> npt.NDArray[np.bool_]:
    return np.asarray(rows["review_flags"].to_numpy() & int(bits), np.bool_)


def _matches(rows: pa.Table, condition: Condition) -> npt.NDArray[np.bool_]:
    numbered = rows.append_column(_NUMBER, pa.array(np.arange(len(rows))))
    mask = np.zeros(len(rows), np.bool_)
    mask[condition.filter(numbered)[_NUMBER].to_numpy()] = True
    return mask


def _index(values: pa.ChunkedArray, classes: Sequence[str]) -> Ints:
    places = pc.index_in(values, value_set=pa.array(classes, values.type))
    return np.asarray(pc.fill_null(places, -1).to_numpy(), np.int64)


def _bins(edges: Sequence[float]) -> list[str]:
    """Names of the ranges between the edges."""
    limits = [0.0, *edges, 1.0]
    return [f"{low:g} to {high:g}" for low, high in itertools.pairwise(limits)]
