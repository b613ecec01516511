"""Old and new class shares in groups of rows: all rows, bins of a column, sky cells."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from galaxy_batch.compare.drift import quantile_edges
from galaxy_batch.stats import difference_error

__all__ = ["Labels", "Mix", "Pairs", "bin_mix", "class_mix", "sky_mix"]

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int8]
"""Index of each row's class; −1 without a class."""
Pairs = tuple[Rows, Rows]
"""Matched rows of the old and of the new catalog, ``(P,)`` each."""

_FINEST_ORDER = 5  # cells 1.8 degrees wide
_HEALPIX_ORDER = 29


@dataclass(frozen=True)
class Mix:
    """Class shares in groups; nan in empty groups."""

    of: str
    """What the groups are of: "all", a column, or "sky"."""
    groups: list[str]
    """Name of each, ``(G,)``."""
    old_rows: Rows
    """``(G,)``: rows with a class."""
    new_rows: Rows
    """``(G,)``."""
    old_share: Array
    """``(G, classes)``."""
    new_share: Array
    """``(G, classes)``."""
    difference: Array
    """``(G, classes)``: new − old share."""
    error: Array
    """``(G, classes)``: its standard error, see `stats.difference_error`."""
    left_out: int = 0
    """Rows with a class, of both catalogs, that are in no group."""
    order: int | None = None
    """HEALPix order of the groups if they are sky cells; their names are then nested pixels."""

    def worst(self, errors: float) -> tuple[float, str]:
        """The largest significant change of a share.

        Args:
            errors: number of standard errors that a change must exceed.

        Returns:
            Its size and its group; 0 if there is none.
        """
        old, new = (
            (share * rows[:, None] + 1) / (rows[:, None] + 2)  # as in the error: two hits of two rows are not certain
            for share, rows in ((self.old_share, self.old_rows), (self.new_share, self.new_rows))
        )
        beyond = np.nan_to_num(np.where(np.abs(new - old) > errors * self.error, np.abs(self.difference), 0.0))
        if not beyond.size or not beyond.any():
            return 0.0, ""
        return float(beyond.max()), self.groups[int(np.unravel_index(beyond.argmax(), beyond.shape)[0])]


def class_mix(
    of: str,
    groups: Sequence[str],
    labels: tuple[Labels, Labels],
    members: tuple[Rows, Rows],
    pairs: Pairs,
    classes: int,
    order: int | None = None,
) -> Mix:
    """Compare class shares group by group.

    Args:
        of: what the groups are of.
        groups: their names.
        labels: class of each old row ``(N,)`` and new row ``(M,)``.
        members: group of each old and new row; −1 for none.
        pairs: matched rows, which correlate the old and new shares.
        classes: number of classes.
        order: HEALPix order, if the groups are sky cells.
    """
    shape = (len(groups), classes)
    inside = [(label >= 0) & (member >= 0) for label, member in zip(labels, members, strict=True)]
    old, new = (
        np.bincount(member[some].astype(np.int64) * classes + label[some], minlength=shape[0] * classes).reshape(shape)
        for label, member, some in zip(labels, members, inside, strict=True)
    )
    first, second = members[0][pairs[0]], members[1][pairs[1]]
    together = inside[0][pairs[0]] & inside[1][pairs[1]] & (first == second)
    group, before, after = first[together], labels[0][pairs[0]][together], labels[1][pairs[1]][together]
    cells = (group.astype(np.int64) * classes + before) * classes + after
    joint = np.bincount(cells, minlength=shape[0] * classes**2).reshape(*shape, classes)
    old_rows, new_rows = old.sum(axis=1), new.sum(axis=1)
    shared = (joint.diagonal(axis1=1, axis2=2), joint.sum(axis=2), joint.sum(axis=1), joint.sum(axis=(1, 2))[:, None])
    with np.errstate(invalid="ignore"):
        old_share, new_share = old / old_rows[:, None], new / new_rows[:, None]
    error = difference_error((old, old_rows[:, None]), (new, new_rows[:, None]), shared)
    with_class = sum(int((label >= 0).sum()) for label in labels)
    return Mix(
        of=of,
        groups=list(groups),
        old_rows=old_rows,
        new_rows=new_rows,
        old_share=old_share,
        new_share=new_share,
        difference=new_share - old_share,
        error=np.where(np.isnan(new_share - old_share), math.nan, error),
        left_out=with_class - int(old_rows.sum() + new_rows.sum()),
        order=order,
    )


def bin_mix(
    name: str, values: tuple[Array, Array], bins: int, labels: tuple[Labels, Labels], pairs: Pairs, classes: int
) -> Mix:
    """Class shares in bins of a column with equal numbers of old rows; rows without a value are left out.

    Args:
        name: of the column.
        values: of each old and new row; nan for none.
        bins: number of bins.
        labels: these and the following as for `class_mix`.
        pairs: matched rows.
        classes: number of classes.
    """
    known = values[0][np.isfinite(values[0])]
    if not len(known):
        nowhere = np.full(len(labels[0]), -1), np.full(len(labels[1]), -1)
        return class_mix(name, [], labels, nowhere, pairs, classes)
    edges = quantile_edges(known, bins)
    members = [
        np.where(np.isfinite(column), np.searchsorted(edges[1:-1], column, "right"), -1).astype(np.int64)
        for column in values
    ]
    return class_mix(name, _names(edges), labels, (members[0], members[1]), pairs, classes)


def sky_mix(pixels: tuple[Rows, Rows], min_rows: int, labels: tuple[Labels, Labels], pairs: Pairs, classes: int) -> Mix:
    """Class shares in sky cells with enough rows; all other rows are left out.

    The order is the finest at which half of the cells with old rows have enough rows.

    Args:
        pixels: of each old and new row, nested, order 29; −1 for none.
        min_rows: rows with a class that a cell needs in each catalog.
        labels: these and the following as for `class_mix`.
        pairs: matched rows.
        classes: number of classes.
    """
    order = _order_for(pixels[0][(pixels[0] >= 0) & (labels[0] >= 0)], min_rows)
    shift = 2 * (_HEALPIX_ORDER - order)
    cells = [np.where(pixel >= 0, pixel >> shift, -1) for pixel in pixels]
    counts = [
        np.bincount(cell[(cell >= 0) & (label >= 0)], minlength=12 << 2 * order)
        for cell, label in zip(cells, labels, strict=True)
    ]
    kept = np.flatnonzero((counts[0] >= min_rows) & (counts[1] >= min_rows))
    number = np.full((12 << 2 * order) + 1, -1)  # the last is for rows without a position
    number[kept] = np.arange(len(kept))
    names = [str(cell) for cell in kept.tolist()]
    return class_mix("sky", names, labels, (number[cells[0]], number[cells[1]]), pairs, classes, order)


def _order_for(pixels: Rows, min_rows: int) -> int:
    """The finest order at which half of the cells with rows have `min_rows`."""
    for order in range(_FINEST_ORDER, 0, -1):
        counts = np.bincount(pixels >> 2 * (_HEALPIX_ORDER - order))
        if (counts >= min_rows).sum() * 2 >= max((counts > 0).sum(), 1):
            return order
    return 0


def _names(edges: Array) -> list[str]:
    """Names of the bins."""
    inner = [f"{edge:.4g}" for edge in edges[1:-1]]
    if not inner:
        return ["all"]
    between = [f"{low} to {high}" for low, high in pairwise(inner)]
    return [f"below {inner[0]}", *between, f"{inner[-1]} and above"]
