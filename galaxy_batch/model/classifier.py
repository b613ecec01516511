"""The model actor: encoded cutouts in, calibrated class probabilities out."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scipy.special

from galaxy_batch.config import ClassifyConfig
from galaxy_batch.cutouts.decode import blank_fraction, decode
from galaxy_batch.cutouts.resize import Pixels, resize
from galaxy_batch.decision_tree import Question, answer_fractions, asked_fractions, split_answers
from galaxy_batch.embeddings import packed_embeddings, unpacked_embeddings
from galaxy_batch.model.checkpoint import read_checkpoint
from galaxy_batch.model.engines.choose import load_engine
from galaxy_batch.model.engines.engine import EngineName, Precision
from galaxy_batch.model.forward_passes import ForwardPasses
from galaxy_batch.model.output import ViewOutput
from galaxy_batch.model.views import combined, view_numbers
from galaxy_batch.rows import (
    BLANK_FRACTION,
    EMBEDDING,
    IMAGE_BYTES,
    MODEL_COLUMNS,
    Status,
    UnusableCutout,
    prediction_columns,
    probability_columns,
)

__all__ = ["Classifier"]

_DECODE_AHEAD = 64  # cutouts, and at least two batches

Array = npt.NDArray[np.float32]


@dataclass
class _ChunkPredictions:
    """Predictions for the rows of a chunk, filled in as batches are computed; nan where there is no image."""

    status: list[str]
    error: list[str | None]
    blank_fraction: Array
    columns: dict[str, Array]
    """`prediction_columns` by name; `MODEL_COLUMNS` are nan too where the model does not measure them."""
    embedding: Array
    """``(N, size)``."""


class Classifier:
    """Loads a checkpoint once, then classifies chunk after chunk.

    Three things go on at once: threads decode, the engine copies and computes, the calling thread collects.

    Args:
        checkpoint_uri: a checkpoint of `train_model`.
        config: limits of the decoder.
        batch_size: cutouts per forward pass.
        engine: what computes the network.
        precision: of the network's sums.
        threads: CPU threads of this actor, for decoding and, on a CPU, for the model.
        network: the network as `converted_network` gives it, where it is at hand; only used by OpenVINO.
    """

    def __init__(
        self,
        checkpoint_uri: str,
        config: ClassifyConfig,
        batch_size: int,
        engine: EngineName,
        precision: Precision,
        threads: int,
        network: bytes | None = None,
    ) -> None:
        file = read_checkpoint(checkpoint_uri)
        self.checkpoint = file.checkpoint
        self.engine = load_engine(engine, file, precision, batch_size, threads, network)
        averaged = self.checkpoint.spec.views
        self.views = view_numbers(averaged if averaged > 1 else config.stability_views)
        self.config = config
        self.decoders = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def __call__(self, rows: pa.Table, report: Callable[[int], None] | None = None) -> pa.Table:
        """Classify the rows of one chunk. A row in is a row out. Calls `report` with the rows of each computed batch.

        Reads `_image_bytes`, `status`, `error`; and of rows that are reused from a previous catalog, which are not
        computed again, the columns that it adds.
        Adds `p_<class>`, `predicted_class`, `confidence`, and the columns of the questions: null where there is no
        image; `_blank_fraction`: null there, and in reused rows; `unfamiliarity`, `instability`: null there, and where
        the model does not measure them; with `classify.embedding`, `_embedding`: null without an image.
        Changes `status` and `error` where a cutout cannot be decoded.
        Drops `_image_bytes`.
        """
        spec = self.checkpoint.spec
        names = prediction_columns(spec.classes, spec.questions, self.config.concentrations)
        predictions = _ChunkPredictions(
            status=rows["status"].to_pylist(),
            error=rows["error"].to_pylist(),
            blank_fraction=_nans(len(rows)),
            columns={name: _reused(rows, name) for name in names},
            embedding=_reused_embedding(rows, self.config.embedding),
        )
        passes = ForwardPasses(self.engine, spec, self.views, len(rows), report)
        for positions, cutouts in self._batches(rows[IMAGE_BYTES], predictions):
            passes.add(positions, cutouts)
        passes.finish()
        self._combine(passes.outputs, predictions)
        return _with_predictions(rows.drop_columns([IMAGE_BYTES]), predictions, spec.classes)

    def _combine(self, views: ViewOutput[Array], predictions: _ChunkPredictions) -> None:
        """Fill in the columns of the rows whose views are computed."""
        spec = self.checkpoint.spec
        rows = np.flatnonzero(~np.isnan(views.class_logits[0, :, 0]))
        output = combined(views.map(lambda values: values[:, rows]), spec.views)
        probabilities = scipy.special.softmax(output.class_logits / np.float32(self.checkpoint.temperature), axis=1)
        computed = dict(zip(probability_columns(spec.classes), probabilities.T, strict=True))
        computed |= {name: getattr(output, name) for name in MODEL_COLUMNS}
        computed |= _vote_columns(spec.questions, output.concentrations)
        for name, values in predictions.columns.items():
            values[rows] = computed[name]
        predictions.embedding[rows] = output.embedding[:, : self.config.embedding]

    def _batches(
        self, images: pa.ChunkedArray, predictions: _ChunkPredictions
    ) -> Iterator[tuple[list[int], list[Pixels]]]:
        """Row numbers and decoded cutouts, batch by batch; the next batches are decoded while one is computed."""
        size = self.engine.batch_size
        most_open = max(2, _DECODE_AHEAD // size) + 1
        missing = np.isnan(predictions.columns[probability_columns(self.checkpoint.spec.classes)[0]])
        todo = [row for row, status in enumerate(predictions.status) if status == Status.OK and missing[row]]
        batches = iter([todo[start : start + size] for start in range(0, len(todo), size)])
        decoding: deque[tuple[list[int], list[Future[tuple[Pixels, float]]]]] = deque()
        while True:
            for batch in islice(batches, most_open - len(decoding)):
                decoding.append((batch, [self.decoders.submit(self._prepare, images[row].as_py()) for row in batch]))
            if not decoding:
                return
            by_side: dict[int, tuple[list[int], list[Pixels]]] = {}
            for row, future in zip(*decoding.popleft(), strict=True):
                try:
                    cutout, predictions.blank_fraction[row] = future.result()
                except UnusableCutout as bad:
                    predictions.status[row], predictions.error[row] = str(bad.status), bad.reason
                else:
                    positions, cutouts = by_side.setdefault(cutout.shape[-1], ([], []))
                    positions.append(row)
                    cutouts.append(cutout)
            yield from by_side.values()

    def _prepare(self, content: bytes) -> tuple[Pixels, float]:
        """Decode one cutout and crop its centre, scaled unless the engine does that; and its blank fraction."""
        spec = self.checkpoint.spec
        native = decode(content, self.config.max_image_pixels, self.config.rgb)
        size_px = None if self.engine.resizes else spec.size_px
        return resize(native, size_px, spec.crop_fraction), blank_fraction(native)


def _vote_columns(questions: Sequence[Question], concentrations: Array) -> dict[str, Array]:
    """All columns of the questions, from concentrations ``(N, answers)``."""
    if not questions:
        return {}
    split, fractions = split_answers(questions, concentrations), answer_fractions(questions, concentrations)
    asked = asked_fractions(questions, fractions)
    columns = {question.asked_column: asked[question.name] for question in questions}
    for question in questions:
        columns |= dict(zip(question.fraction_columns, fractions[question.name].T, strict=True))
        columns |= dict(zip(question.dirichlet_columns, split[question.name].T, strict=True))
    return columns


def _nans(count: int) -> Array:
    return np.full(count, np.nan, np.float32)


def _reused(rows: pa.Table, name: str) -> Array:
    """A column of values reused from a previous catalog; nan where there are none."""
    if name not in rows.column_names:
        return _nans(len(rows))
    values: Array = rows[name].to_numpy().copy()
    return values


def _reused_embedding(rows: pa.Table, size: int) -> Array:
    """Embeddings ``(N, size)`` reused from a previous catalog; nan where there are none."""
    values = np.full((len(rows), size), np.nan, np.float32)
    if EMBEDDING in rows.column_names:
        reused, missing = unpacked_embeddings(rows[EMBEDDING])
        values[~missing] = reused[~missing]
    return values


def _with_predictions(rows: pa.Table, predictions: _ChunkPredictions, classes: tuple[str, ...]) -> pa.Table:
    no_image = np.array([status != Status.OK for status in predictions.status], np.bool_)
    probabilities = np.stack([predictions.columns[name] for name in probability_columns(classes)], axis=1)
    best = np.where(no_image, 0, np.nan_to_num(probabilities).argmax(axis=1)).astype(np.int32)
    labels = pa.DictionaryArray.from_arrays(pa.array(best, mask=no_image), pa.array(classes, pa.string()))
    added = {
        "status": pa.array(predictions.status, pa.string()),
        "error": pa.array(predictions.error, pa.string()),
        "predicted_class": labels,
        "confidence": pa.array(probabilities[np.arange(len(rows)), best], mask=no_image),
        BLANK_FRACTION: pa.array(predictions.blank_fraction, mask=np.isnan(predictions.blank_fraction)),
    }
    for name, values in predictions.columns.items():
        added[name] = pa.array(values, mask=np.isnan(values) if name in MODEL_COLUMNS else no_image)
    if predictions.embedding.shape[1]:
        added[EMBEDDING] = packed_embeddings(predictions.embedding, no_image)
    rows = rows.drop_columns([name for name in added if name in rows.column_names])
    for name, values in added.items():
        rows = rows.append_column(name, values)
    return rows
