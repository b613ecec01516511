"""The one actor class: encoded cutouts in, calibrated class probabilities out."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from galaxy_batch.checkpoint import load_checkpoint
from galaxy_batch.config import ClassifyConfig
from galaxy_batch.cutouts import Pixels, UnusableCutout, blank_fraction, decode, resize
from galaxy_batch.rows import BLANK_FRACTION, IMAGE_BYTES, Status, probability_columns

__all__ = ["Classifier"]


@dataclass
class _Answers:
    """What is known of a chunk's rows, filled in as batches come back; NaN where there is no image."""

    status: list[str]
    error: list[str | None]
    probabilities: npt.NDArray[np.float32]
    blank: npt.NDArray[np.float32]


class Classifier:
    """Loads a checkpoint once, then classifies chunk after chunk.

    Args:
        checkpoint_uri: a checkpoint of `train_model`.
        config: limits of the decoder.
        batch_size: cutouts per forward pass.
        device: `cpu` or `cuda`.
        threads: CPU threads of this actor, for decoding and, on a CPU, for the model.
    """

    def __init__(self, checkpoint_uri: str, config: ClassifyConfig, batch_size: int, device: str, threads: int) -> None:
        torch.set_num_threads(threads)  # an actor is given one thread by default, whatever it may use
        self.checkpoint, self.model = load_checkpoint(checkpoint_uri)
        self.model.to(device)
        self.config = config
        self.batch_size = batch_size
        self.device = torch.device(device)
        self.decoders = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Classify the rows of one chunk. A row in is a row out.

        Reads `_image_bytes`, `status`, `error`.
        Adds `p_<class>`, `predicted_class`, `confidence`, `_blank_fraction`: null where there is no image.
        Changes `status` and `error` where a cutout cannot be decoded.
        Drops `_image_bytes`.
        """
        classes = self.checkpoint.spec.classes
        answers = _Answers(
            status=rows["status"].to_pylist(),
            error=rows["error"].to_pylist(),
            probabilities=np.full((len(rows), len(classes)), np.nan, np.float32),
            blank=np.full(len(rows), np.nan, np.float32),
        )
        for positions, pixels in self._batches(rows[IMAGE_BYTES], answers):
            answers.blank[positions] = blank_fraction(pixels)
            answers.probabilities[positions] = self.probabilities(pixels)
        return _with_answers(rows.drop_columns([IMAGE_BYTES, "status", "error"]), answers, classes)

    @torch.inference_mode()
    def probabilities(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Calibrated probabilities ``(N, classes)`` of resized uint8 pixels ``(N, 3, size_px, size_px)``."""
        logits = self.model(pixels.to(self.device)).float()
        result: npt.NDArray[np.float32] = torch.softmax(logits / self.checkpoint.temperature, dim=1).cpu().numpy()
        return result

    def _batches(self, images: pa.ChunkedArray, answers: _Answers) -> Iterator[tuple[list[int], Pixels]]:
        """Decoded batches and their rows; the next batch is decoded while this one is in the model."""
        waiting = [row for row, status in enumerate(answers.status) if status == Status.OK]
        size = self.batch_size
        cuts = [waiting[start : start + size] for start in range(0, len(waiting), size)]
        ahead = [[self.decoders.submit(self._pixels, images[r].as_py()) for r in cut] for cut in cuts[:1]]
        for number, cut in enumerate(cuts):
            ahead += [
                [self.decoders.submit(self._pixels, images[r].as_py()) for r in c] for c in cuts[number + 1 :][:1]
            ]
            decoded, positions = [], []
            for row, future in zip(cut, ahead.pop(0), strict=True):
                try:
                    decoded.append(future.result())
                    positions.append(row)
                except UnusableCutout as bad:
                    answers.status[row], answers.error[row] = str(bad.status), bad.reason
            if positions:
                yield positions, torch.stack(decoded)

    def _pixels(self, content: bytes) -> Pixels:
        spec = self.checkpoint.spec
        return resize(decode(content, self.config.max_image_pixels), spec.size_px, spec.crop_fraction)


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
    for number, name in enumerate(probability_columns(classes)):
        added[name] = pa.array(answers.probabilities[:, number], mask=unread)
    for name, values in added.items():
        rows = rows.append_column(name, values)
    return rows
