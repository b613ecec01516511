"""Which views of which cutouts the network sees, batch by batch."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from galaxy_batch.cutouts.resize import Pixels
from galaxy_batch.model.engines.engine import Engine, PendingOutput
from galaxy_batch.model.output import ViewOutput
from galaxy_batch.model.spec import ModelSpec
from galaxy_batch.model.views import margin, view_of

__all__ = ["ForwardPasses"]

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Pass:
    """One forward pass that may still be computed."""

    rows: Sequence[int]
    places: Sequence[int]
    """Position in the views, of each row."""
    cutouts: Sequence[Pixels]
    output: PendingOutput


class ForwardPasses:
    """Computes the views of a chunk's cutouts.

    All views of every cutout, or, where the spec has `further_views_below`, the first view of every cutout and the
    others of those whose first view is not sure. That depends on the cutout alone, not on its batch or chunk.

    Args:
        engine: what computes the network.
        spec: of the model.
        views: numbers of the views.
        rows: number of rows of the chunk.
        report: called with the number of rows whose last view is computed.
    """

    def __init__(
        self, engine: Engine, spec: ModelSpec, views: Sequence[int], rows: int, report: Callable[[int], None] | None
    ) -> None:
        self.engine, self.views, self.report = engine, views, report
        self.sure_margin = spec.further_views_below
        answers = sum(len(question.answers) for question in spec.questions)
        shape = len(views), rows
        self.outputs = ViewOutput(
            class_logits=_nans(*shape, len(spec.classes)),
            squared_distance=_nans(*shape),
            concentrations=_nans(*shape, answers),
            embedding=_nans(*shape, spec.embedding_size),
        )
        """Of the views that are computed; nan elsewhere. The first axis is the view, the second the row."""
        self._open: deque[_Pass] = deque()
        self._further: dict[int, list[tuple[int, int, Pixels]]] = {}
        """Further views to compute, by the side of the cutout: row, position in the views, turned cutout."""

    def add(self, rows: Sequence[int], cutouts: Sequence[Pixels]) -> None:
        """Begin to compute a batch: row numbers and cutouts, all of one side."""
        self._collect(self.engine.in_flight)
        loaded = self.engine.load(cutouts)
        for place in range(len(self.views) if self.sure_margin is None else 1):
            self._collect(self.engine.in_flight)
            output = self.engine.compute(loaded, self.views[place])
            self._open.append(_Pass(rows, [place] * len(rows), cutouts, output))
        self._look_again(self.engine.batch_size)

    def finish(self) -> None:
        """Wait until all views of all batches are computed."""
        self._collect(0)
        self._look_again(1)
        self._collect(0)

    def _look_again(self, at_least: int) -> None:
        """Begin the further views of unsure cutouts, where there are enough for a batch, which may mix views."""
        for side in list(self._further):
            while len(self._further[side]) >= at_least:
                batch = self._further[side][: self.engine.batch_size]
                del self._further[side][: self.engine.batch_size]
                rows, places, cutouts = zip(*batch, strict=True)
                self._collect(self.engine.in_flight)
                output = self.engine.compute(self.engine.load(cutouts), 0)
                self._open.append(_Pass(rows, places, cutouts, output))

    def _collect(self, most_open: int) -> None:
        """Wait for the first forward passes, until at most `most_open` are open."""
        while len(self._open) > most_open:
            done = self._open.popleft()
            output = done.output.result()
            for values, computed in zip(self.outputs, output, strict=True):
                values[done.places, done.rows] = computed
            finished = done.places.count(len(self.views) - 1)
            if self.sure_margin is not None and done.places[0] == 0:
                unsure = np.flatnonzero(margin(output.class_logits) < self.sure_margin)
                for position in unsure.tolist():
                    self._turn(done.rows[position], done.cutouts[position])
                finished = len(done.rows) - len(unsure)
            if self.report is not None and finished:
                self.report(finished)

    def _turn(self, row: int, cutout: Pixels) -> None:
        """Remember the further views of an unsure cutout."""
        waiting = self._further.setdefault(cutout.shape[-1], [])
        waiting += [(row, place, view_of(cutout, self.views[place])) for place in range(1, len(self.views))]


def _nans(*shape: int) -> Array:
    return np.full(shape, np.nan, np.float32)
