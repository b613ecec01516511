"""How fast each step of the walk could go if it were alone: what the whole pipeline is measured against.

Every function gives cutouts per second on this machine, on the cutouts it is given, and runs nothing of Ray.
"""

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from galaxy_batch.config import ClassifyConfig
from galaxy_batch.cutouts.decode import Pixels, blank_fraction, decode, resize
from galaxy_batch.cutouts.fetch import fetch_cutouts
from galaxy_batch.model.engines.engine import Engine, PendingOutput
from galaxy_batch.model.network import ModelSpec
from galaxy_batch.rows import IMAGE_BYTES, UnusableCutout

__all__ = ["decode_rate", "engine_probabilities", "engine_rate", "prepared_batches", "read_rate"]


def read_rate(rows: pa.Table, config: ClassifyConfig, chunk_rows: int) -> tuple[float, list[bytes]]:
    """Fetch every cutout once, chunk by chunk: cutouts per second, and the bytes of those that are there."""
    contents: list[bytes] = []
    started = time.perf_counter()
    for start in range(0, len(rows), chunk_rows):
        chunk = fetch_cutouts(rows.slice(start, chunk_rows), config.max_image_bytes)
        contents += chunk[IMAGE_BYTES].drop_null().to_pylist()
    return len(rows) / (time.perf_counter() - started), contents


def decode_rate(contents: Sequence[bytes], spec: ModelSpec, config: ClassifyConfig, threads: int) -> float:
    """Decode and resize encoded cutouts in so many threads: cutouts per second."""
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        for _ in pool.map(lambda content: _prepared(content, spec, config), contents):
            pass
        return len(contents) / (time.perf_counter() - started)


def prepared_batches(
    contents: Sequence[bytes], spec: ModelSpec, config: ClassifyConfig, batch_size: int, batches: int
) -> list[list[Pixels]]:
    """Batches of decoded cutouts ``(3, size_px, size_px)``, repeated where there are too few."""
    found = [p for content in contents[: batch_size * batches] if (p := _prepared(content, spec, config)) is not None]
    if not found:
        raise ValueError("not one of the cutouts can be decoded")
    again = cycle(found)
    return [[next(again) for _ in range(batch_size)] for _ in range(batches)]


def engine_rate(engine: Engine, batches: Sequence[Sequence[Pixels]], seconds: float, transfer: bool) -> float:
    """Compute batches, over and over, for so long: cutouts per second.

    Args:
        engine: warm or not; it is warmed here.
        batches: of the engine's batch size.
        seconds: for how long.
        transfer: whether each batch is brought to the device anew; else they lie there, and this is the model alone.
    """
    held = [engine.load(batch) for batch in batches[: engine.in_flight + 1]]
    work = cycle(batches) if transfer else cycle(held)
    computing: deque[PendingOutput] = deque(engine.compute(one) for one in held)
    while computing:
        computing.popleft().result()
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds or computing:
        if time.perf_counter() - started < seconds and len(computing) <= engine.in_flight:
            batch = next(work)
            computing.append(engine.compute(engine.load(batch) if transfer else batch))
        else:
            computing.popleft().result()
            done += engine.batch_size
    return done / (time.perf_counter() - started)


def engine_probabilities(
    engine: Engine, batches: Sequence[Sequence[Pixels]], temperature: float
) -> npt.NDArray[np.float32]:
    """Class probabilities ``(N, classes)`` of the cutouts of all batches, one batch after the other."""
    logits = np.concatenate([engine.compute(engine.load(batch)).result().class_logits for batch in batches])
    return torch.softmax(torch.from_numpy(logits) / temperature, dim=1).numpy()


def _prepared(content: bytes, spec: ModelSpec, config: ClassifyConfig) -> Pixels | None:
    try:
        native = decode(content, config.max_image_pixels, config.rgb)
    except UnusableCutout:
        return None
    blank_fraction(native)
    return resize(native, spec.size_px, spec.crop_fraction)
