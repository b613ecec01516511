"""OpenVINO's CPU plugin."""

import warnings
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
import torch
from torch import nn

from galaxy_batch.cutouts.decode import Pixels
from galaxy_batch.errors import InputError
from galaxy_batch.model.engines.engine import ArrayOutput, PendingOutput, Precision
from galaxy_batch.model.network import MorphologyModel
from galaxy_batch.model.output import ModelOutput

__all__ = ["OpenVinoEngine"]


class OpenVinoEngine:
    """One stream per thread, each with its own batch.

    Args:
        model: in eval mode, on the CPU.
        precision: of the network's sums.
        batch_size: cutouts per forward pass.
        threads: CPU threads, hence streams.

    Raises:
        InputError: OpenVINO is not installed.
    """

    resizes = False

    def __init__(self, model: MorphologyModel, precision: Precision, batch_size: int, threads: int) -> None:
        try:
            import openvino  # noqa: PLC0415 - an optional dependency
        except ImportError:
            raise InputError(
                "runtime.engine", "openvino", "is not installed: `uv sync --extra openvino`, or engine = 'torch'"
            ) from None
        self.batch_size, self.in_flight = batch_size, threads
        size = model.spec.size_px
        example = torch.zeros((1, 3, size, size), dtype=torch.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer warns of constants, and that it is deprecated
            shape = [batch_size, 3, size, size]
            converted = openvino.convert_model(_NamedOutputs(model), example_input=example, input=[shape])
        options = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        }
        compiled = openvino.Core().compile_model(converted, "CPU", options)
        self.requests = cycle([compiled.create_infer_request() for _ in range(self.in_flight + 1)])

    def load(self, cutouts: Sequence[Pixels]) -> tuple[Any, int]:
        """Copy the cutouts into the input of the next request."""
        request = next(self.requests)
        batch = request.get_input_tensor(0).data
        for place, cutout in zip(batch, cutouts, strict=False):
            place[:] = cutout.numpy()
        return request, len(cutouts)

    def compute(self, loaded: tuple[Any, int]) -> PendingOutput:
        """Start the request."""
        loaded[0].start_async()
        return _RequestOutput(*loaded)


class _NamedOutputs(nn.Module):
    """Traced by OpenVINO, which names its outputs by the keys of the dictionary."""

    def __init__(self, model: MorphologyModel) -> None:
        super().__init__()
        self.model = model.eval()

    def forward(self, pixels: Pixels) -> dict[str, torch.Tensor]:
        return self.model.predict(pixels)._asdict()


class _RequestOutput:
    """The output of a request; read before the request's next turn."""

    def __init__(self, request: Any, count: int) -> None:
        self.request, self.count = request, count

    def result(self) -> ArrayOutput:
        self.request.wait()
        names = ModelOutput(*ModelOutput._fields)
        return names.map(lambda name: self.request.get_tensor(name).data[: self.count].astype(np.float32))
