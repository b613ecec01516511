"""The one actor class: encoded cutouts in, calibrated class probabilities out."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from galaxy_batch.config import ClassifyConfig
from galaxy_batch.cutouts.decode import Pixels, blank_fraction, decode, resize
from galaxy_batch.model.checkpoint import load_checkpoint
from galaxy_batch.model.engines.choose import Answer, EngineName, Precision, make_engine
from galaxy_batch.rows import (
    BLANK_FRACTION,
    IMAGE_BYTES,
    UNCERTAINTY_COLUMNS,
    Status,
    UnusableCutout,
    probability_columns,
)

__all__ = ["Classifier"]

_DECODED_AHEAD = 64  # cutouts, and at least two batches


@dataclass
class _Answers:
    """What is known of a chunk's rows, filled in as batches come back; NaN where there is no image."""

    status: list[str]
    error: list[str | None]
    probabilities: npt.NDArray[np.float32]
    blank: npt.NDArray[np.float32]
    doubts: npt.NDArray[np.float32]
    """``(N, 2)``: unfamiliarity and instability; NaN too where the model does not tell."""


class Classifier:
    """Loads a checkpoint once, then classifies chunk after chunk.

    Three things go on at the same time: threads decode, the engine copies and computes, this thread collects.

    Args:
        checkpoint_uri: a checkpoint of `train_model`.
        config: limits of the decoder.
        batch_size: cutouts per forward pass.
        engine: what computes the network.
        precision: of the network's sums.
        threads: CPU threads of this actor, for decoding and, on a CPU, for the model.
    """

    def __init__(
        self,
        checkpoint_uri: str,
        config: ClassifyConfig,
        batch_size: int,
        engine: EngineName,
        precision: Precision,
        threads: int,
    ) -> None:
        self.checkpoint, model = load_checkpoint(checkpoint_uri)
        model.stability_views = config.stability_views
        self.engine = make_engine(engine, model, precision, batch_size, threads)
        self.config = config
        self.decoders = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Classify the rows of one chunk. A row in is a row out.

        Reads `_image_bytes`, `status`, `error`; `p_<class>`, `_blank_fraction`, `unfamiliarity`, `instability` of rows
        that bring them from an earlier catalog, and are not computed.
        Adds `p_<class>`, `predicted_class`, `confidence`, `_blank_fraction`: null where there is no image;
        `unfamiliarity`, `instability`: null there, and where the model does not tell.
        Changes `status` and `error` where a cutout cannot be decoded.
        Drops `_image_bytes`.
        """
        classes = self.checkpoint.spec.classes
        answers = _Answers(
            status=rows["status"].to_pylist(),
            error=rows["error"].to_pylist(),
            probabilities=_brought(rows, probability_columns(classes)),
            blank=_brought(rows, [BLANK_FRACTION])[:, 0],
            doubts=_brought(rows, UNCERTAINTY_COLUMNS),
        )
        computing: deque[tuple[list[int], Answer]] = deque()
        for positions, cutouts in self._batches(rows[IMAGE_BYTES], answers):
            if len(computing) > self.engine.in_flight:
                self._collect(*computing.popleft(), answers)
            computing.append((positions, self.engine.compute(self.engine.load(cutouts))))
        while computing:
            self._collect(*computing.popleft(), answers)
        answered = {IMAGE_BYTES, "status", "error", BLANK_FRACTION, *UNCERTAINTY_COLUMNS, *probability_columns(classes)}
        kept = [name for name in rows.column_names if name not in answered]
        return _with_answers(rows.select(kept), answers, classes)

    def _collect(self, positions: list[int], answer: Answer, answers: _Answers) -> None:
        found = answer.result()
        answers.doubts[positions] = found[:, -2:]
        logits = torch.from_numpy(found[:, :-2])
        answers.probabilities[positions] = torch.softmax(logits / self.checkpoint.temperature, dim=1).numpy()

    def _batches(self, images: pa.ChunkedArray, answers: _Answers) -> Iterator[tuple[list[int], list[Pixels]]]:
        """Decoded batches and their rows; the next batches are decoded while this one is computed."""
        size = self.engine.batch_size
        open_cuts = max(2, _DECODED_AHEAD // size) + 1
        unknown = np.isnan(answers.blank)
        waiting = [row for row, status in enumerate(answers.status) if status == Status.OK and unknown[row]]
        cuts = iter([waiting[start : start + size] for start in range(0, len(waiting), size)])
        ahead: deque[tuple[list[int], list[Future[tuple[Pixels, float]]]]] = deque()
        while True:
            for cut in islice(cuts, open_cuts - len(ahead)):
                ahead.append((cut, [self.decoders.submit(self._prepare, images[row].as_py()) for row in cut]))
            if not ahead:
                return
            by_side: dict[int, tuple[list[int], list[Pixels]]] = {}
            for row, future in zip(*ahead.popleft(), strict=True):
                try:
                    cutout, answers.blank[row] = future.result()
                except UnusableCutout as bad:
                    answers.status[row], answers.error[row] = str(bad.status), bad.reason
                else:
                    positions, cutouts = by_side.setdefault(cutout.shape[-1], ([], []))
                    positions.append(row)
                    cutouts.append(cutout)
            yield from by_side.values()

    def _prepare(self, content: bytes) -> tuple[Pixels, float]:
        """Decode one cutout and cut out its centre, scaled where the engine does not do that; its blank fraction."""
        spec = self.checkpoint.spec
        native = decode(content, self.config.max_image_pixels, self.config.rgb)
        size_px = None if self.engine.resizes else spec.size_px
        return resize(native, size_px, spec.crop_fraction), blank_fraction(native)


def _brought(rows: pa.Table, names: Sequence[str]) -> npt.NDArray[np.float32]:
    """What rows bring along, ``(rows, names)``; NaN where they bring nothing."""
    nothing = np.full(len(rows), np.nan, np.float32)
    return np.stack([rows[name].to_numpy() if name in rows.column_names else nothing for name in names], axis=1)


def _with_answers(rows: pa.Table, answers: _Answers, classes: tuple[str, ...]) -> pa.Table:
    unread = np.isnan(answers.blank)
    best = np.where(unread, 0, np.nan_to_num(answers.probabilities).argmax(axis=1)).astype(np.int32)
    labels = pa.DictionaryArray.from_arrays(pa.array(best, mask=unread), pa.array(classes, pa.string()))
    added = {
        "status": pa.array(answers.status, pa.string()),
        "error": pa.array(answers.error, pa.string()),
        "predicted_class": labels,
        "confidence": pa.array(answers.probabilities[np.arange(len(rows)), best], mask=unread),
        BLANK_FRACTION: pa.array(answers.blank, mask=unread),
    }
    for number, name in enumerate(UNCERTAINTY_COLUMNS):
        added[name] = pa.array(answers.doubts[:, number], mask=np.isnan(answers.doubts[:, number]))
    for number, name in enumerate(probability_columns(classes)):
        added[name] = pa.array(answers.probabilities[:, number], mask=unread)
    for name, values in added.items():
        rows = rows.append_column(name, values)
    return rows
