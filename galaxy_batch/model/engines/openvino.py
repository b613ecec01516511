"""OpenVINO's CPU plugin. Imports no torch: the network comes as `conversion` has written it."""

import io
import zipfile
from collections.abc import Sequence, Set
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt

from galaxy_batch.cutouts.resize import Pixels
from galaxy_batch.errors import InputError
from galaxy_batch.model.engines.engine import ArrayOutput, PendingOutput, Precision
from galaxy_batch.model.output import ViewOutput
from galaxy_batch.model.views import view_of

__all__ = ["OpenVinoEngine"]


class OpenVinoEngine:
    """One stream per thread, each with its own batch.

    Args:
        network: what `converted` gives; its input has the batch size.
        precision: of the network's sums.
        threads: CPU threads, hence streams.

    Raises:
        InputError: OpenVINO is not installed.
    """

    resizes = False

    def __init__(self, network: bytes, precision: Precision, threads: int) -> None:
        try:
            import openvino  # noqa: PLC0415 - an optional dependency
        except ImportError:
            raise InputError(
                "runtime.engine", "openvino", "is not installed: `uv sync --extra openvino`, or engine = 'torch'"
            ) from None
        with zipfile.ZipFile(io.BytesIO(network)) as members:
            core, weights = openvino.Core(), members.read("network.bin")
            model = core.read_model(members.read("network.xml"), weights)
        options = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        }
        compiled = core.compile_model(model, "CPU", options)
        self.batch_size, self.in_flight = int(compiled.input(0).shape[0]), threads
        self.outputs = {name for output in compiled.outputs for name in output.names}
        self.requests = cycle([compiled.create_infer_request() for _ in range(self.in_flight + 1)])

    def load(self, cutouts: Sequence[Pixels]) -> Sequence[Pixels]:
        """Nothing is copied yet: each view of the cutouts goes to the input of its own request."""
        return cutouts

    def compute(self, loaded: Sequence[Pixels], view: int) -> PendingOutput:
        """Copy the view into the input of the next request, and start it."""
        request = next(self.requests)
        batch = request.get_input_tensor(0).data
        for place, cutout in zip(batch, loaded, strict=False):
            place[:] = view_of(cutout, view)
        request.start_async()
        return _RequestOutput(request, len(loaded), self.outputs)


class _RequestOutput:
    """The output of a request; read before the request's next turn."""

    def __init__(self, request: Any, count: int, outputs: Set[str]) -> None:
        self.request, self.count, self.outputs = request, count, outputs

    def result(self) -> ArrayOutput:
        self.request.wait()
        return ViewOutput(*ViewOutput._fields).map(self._output)

    def _output(self, name: str) -> npt.NDArray[np.float32]:
        """A copy of an output; without columns where the network does not have it."""
        if name not in self.outputs:
            return np.empty((self.count, 0), np.float32)
        values: npt.NDArray[np.float32] = self.request.get_tensor(name).data[: self.count].astype(np.float32)
        return values
