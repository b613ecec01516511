"""Cutouts per second of each stage of the pipeline alone, without Ray, and of timm's own inference loop."""

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
import torch.utils.data
from PIL import Image
from timm.data.loader import create_loader

from galaxy_batch.config import ClassifyConfig
from galaxy_batch.cutouts.decode import blank_fraction, decode
from galaxy_batch.cutouts.fetch import fetch_cutouts
from galaxy_batch.cutouts.resize import Pixels, resize
from galaxy_batch.model.engines.engine import Engine, PendingOutput
from galaxy_batch.model.network import build_model
from galaxy_batch.model.spec import ModelSpec
from galaxy_batch.model.views import view_numbers
from galaxy_batch.rows import IMAGE_BYTES, UnusableCutout
from galaxy_batch.runtime.progress import with_progress

__all__ = ["decode_rate", "engine_probabilities", "engine_rate", "prepared_batches", "read_rate", "timm_loop_rate"]


def read_rate(rows: pa.Table, config: ClassifyConfig, chunk_rows: int) -> tuple[float, list[bytes]]:
    """Fetch every cutout once, chunk by chunk: cutouts per second, and the bytes of those that exist."""
    contents: list[bytes] = []
    started = time.perf_counter()
    starts = range(0, len(rows), chunk_rows)
    for start in with_progress(starts, "reading", len(rows), lambda start: min(chunk_rows, len(rows) - start)):
        chunk = fetch_cutouts(rows.slice(start, chunk_rows), config.max_image_bytes)
        contents += chunk[IMAGE_BYTES].drop_null().to_pylist()
    return len(rows) / (time.perf_counter() - started), contents


def decode_rate(
    contents: Sequence[bytes], spec: ModelSpec, config: ClassifyConfig, threads: int, native: bool = False
) -> float:
    """Decode and resize encoded cutouts in this many threads: cutouts per second; `native` does not resize them."""
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        decoded = pool.map(lambda content: _prepared(content, spec, config, native), contents)
        for _ in with_progress(decoded, "decoding", len(contents), _one):
            pass
        return len(contents) / (time.perf_counter() - started)


def prepared_batches(
    contents: Sequence[bytes],
    spec: ModelSpec,
    config: ClassifyConfig,
    batch_size: int,
    batches: int,
    native: bool = False,
) -> list[list[Pixels]]:
    """Batches of decoded cutouts ``(3, size_px, size_px)``, repeated where there are too few.

    With `native` they keep their own size, which is that of the first: those of other sizes are left out.
    """
    contents = contents[: batch_size * batches]
    prepared = (_prepared(content, spec, config, native) for content in contents)
    cutouts = [pixels for pixels in with_progress(prepared, "decoding", len(contents), _one) if pixels is not None]
    cutouts = [pixels for pixels in cutouts if pixels.shape == cutouts[0].shape]
    if not cutouts:
        raise ValueError("none of the cutouts can be decoded")
    repeated = cycle(cutouts)
    return [[next(repeated) for _ in range(batch_size)] for _ in range(batches)]


def engine_rate(
    engine: Engine, batches: Sequence[Sequence[Pixels]], seconds: float, transfer: bool, views: int = 1
) -> float:
    """Compute all views of the batches over and over: cutouts per second.

    Args:
        engine: warmed up here.
        batches: of the engine's batch size.
        seconds: duration of the measurement.
        transfer: whether every batch is copied to the device; else the batches stay there, and only the model is timed.
        views: number of views of each cutout.
    """
    numbers = view_numbers(views)
    loaded = [engine.load(batch) for batch in batches[: engine.in_flight + 1]]
    work = cycle(batches) if transfer else cycle(loaded)
    computing: deque[PendingOutput] = deque(engine.compute(batch, 0) for batch in loaded)
    while computing:
        computing.popleft().result()
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        batch = next(work)
        batch = engine.load(batch) if transfer else batch
        for number in numbers:
            computing.append(engine.compute(batch, number))
            if len(computing) > engine.in_flight:
                computing.popleft().result()
        done += engine.batch_size
    while computing:
        computing.popleft().result()
    return done / (time.perf_counter() - started)


def engine_probabilities(
    engine: Engine, batches: Sequence[Sequence[Pixels]], temperature: float
) -> npt.NDArray[np.float32]:
    """Class probabilities ``(N, classes)`` of the cutouts of all batches, as they are."""
    total = sum(map(len, batches))
    outputs = [engine.compute(engine.load(one), 0).result() for one in with_progress(batches, "comparing", total)]
    logits = np.concatenate([output.class_logits for output in outputs])
    return torch.softmax(torch.from_numpy(logits) / temperature, dim=1).numpy()


def timm_loop_rate(files: Sequence[str], spec: ModelSpec, workers: int, gpu: bool) -> float:
    """Cutouts per second of timm's loader and a torch loop in fp32, as in its inference script, start included."""
    device = torch.device("cuda" if gpu else "cpu")
    started = time.perf_counter()
    model = build_model(spec, "random").backbone.to(device)
    loader = create_loader(
        _ImageFiles(files),  # type: ignore[arg-type]
        (3, spec.size_px, spec.size_px), 64, use_prefetcher=gpu, num_workers=workers,
        crop_pct=spec.crop_fraction, mean=spec.mean, std=spec.std, device=device,
    )  # fmt: skip
    with torch.inference_mode():
        for pixels, _ in with_progress(loader, "timm's own loop", len(files), lambda batch: len(batch[0])):
            model(pixels.to(device)).softmax(-1).cpu()
    return len(files) / (time.perf_counter() - started)


class _ImageFiles(torch.utils.data.Dataset[tuple[Any, int]]):
    def __init__(self, files: Sequence[str]) -> None:
        self.files, self.transform = files, None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        try:
            with Image.open(self.files[index]) as image:
                pixels = image.convert("RGB")
        except OSError:
            pixels = Image.new("RGB", (424, 424))  # timm's loop would stop at an unreadable file
        return (self.transform(pixels) if self.transform else pixels), 0


def _one(_: object) -> int:
    return 1


def _prepared(content: bytes, spec: ModelSpec, config: ClassifyConfig, native: bool) -> Pixels | None:
    try:
        pixels = decode(content, config.max_image_pixels, config.rgb)
    except UnusableCutout:
        return None
    blank_fraction(pixels)
    return resize(pixels, None if native else spec.size_px, spec.crop_fraction)
