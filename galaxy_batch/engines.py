"""What turns pixels into logits, on the hardware that there is: OpenVINO or torch on CPUs, compiled torch on GPUs.

An engine takes batches without waiting and answers later, so that the next batch is decoded, and sent to the
device, while this one is in the network. Every batch has the same shape, the last one padded: one shape is
compiled once.
"""

import importlib.util
import warnings
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from galaxy_batch.cutouts import Pixels
from galaxy_batch.errors import InputError
from galaxy_batch.model import MorphologyModel

__all__ = ["Answer", "Engine", "EngineName", "Precision", "choose_engine", "make_engine"]

Logits = npt.NDArray[np.float32]
EngineName = Literal["torch", "openvino", "cuda"]
Precision = Literal["fp32", "bf16"]


class Answer(Protocol):
    """Logits that may not be there yet."""

    def result(self) -> Logits:
        """Wait for them: ``(N, classes)``, for the N cutouts that were submitted."""


class Engine(Protocol):
    """A loaded network."""

    batch_size: int
    """Cutouts in one submission, at most."""
    in_flight: int
    """Submissions that are worth having open at a time."""

    def submit(self, pixels: Pixels) -> Answer:
        """Begin to compute the logits of uint8 pixels ``(N, 3, size_px, size_px)``, N at most `batch_size`."""


def choose_engine() -> EngineName:
    """The fastest engine for CPUs that is installed."""
    return "openvino" if importlib.util.find_spec("openvino") else "torch"


def make_engine(
    name: EngineName, model: MorphologyModel, precision: Precision, batch_size: int, threads: int
) -> Engine:
    """Load a model into an engine.

    Args:
        name: which engine.
        model: in eval mode, on the CPU.
        precision: of the network's sums: `bf16` is faster where the processor has it, and loses two digits.
        batch_size: cutouts per forward pass.
        threads: CPU threads of the model; without meaning on a GPU.

    Raises:
        InputError: OpenVINO is asked for, and not installed.
    """
    if name == "cuda":
        return _Cuda(model, precision, batch_size)
    if name == "openvino":
        return _OpenVino(model, precision, batch_size, threads)
    return _Torch(model, precision, batch_size, threads)


class _Ready:
    """An answer that is there."""

    def __init__(self, logits: Logits) -> None:
        self.logits = logits

    def result(self) -> Logits:
        return self.logits


class _Torch:
    """Plain torch on a CPU: computes at once, while other threads decode."""

    in_flight = 1

    def __init__(self, model: MorphologyModel, precision: Precision, batch_size: int, threads: int) -> None:
        torch.set_num_threads(threads)
        self.model, self.precision, self.batch_size = model.eval(), precision, batch_size

    @torch.inference_mode()
    def submit(self, pixels: Pixels) -> Answer:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            return _Ready(self.model(pixels).float().numpy())


class _OpenVino:
    """OpenVINO's CPU plugin: one stream per thread, each with a batch of its own."""

    def __init__(self, model: MorphologyModel, precision: Precision, batch_size: int, threads: int) -> None:
        try:
            import openvino  # noqa: PLC0415 - an extra: only who uses it needs it
        except ImportError:
            raise InputError(
                "runtime.engine", "openvino", "is not installed: `uv sync --extra openvino`, or engine = 'torch'"
            ) from None
        self.batch_size, self.in_flight = batch_size, threads
        size = model.spec.size_px
        example = torch.zeros((1, 3, size, size), dtype=torch.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer, about constants and about its own age
            converted = openvino.convert_model(
                model.eval(), example_input=example, input=[[batch_size, 3, size, size]]
            )
        options = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        }
        self.compiled = openvino.Core().compile_model(converted, "CPU", options)

    def submit(self, pixels: Pixels) -> Answer:
        request = self.compiled.create_infer_request()
        whole = np.ascontiguousarray(_padded(pixels, self.batch_size).numpy())
        request.start_async({0: whole}, share_inputs=True)
        return _Request(request, whole, len(pixels))


class _Request:
    def __init__(self, request: Any, pixels: npt.NDArray[np.uint8], count: int) -> None:
        self.request, self.pixels, self.count = request, pixels, count  # the pixels must outlive the request

    def result(self) -> Logits:
        self.request.wait()
        logits: Logits = self.request.get_output_tensor(0).data[: self.count].astype(np.float32)
        return logits


class _Cuda:
    """Compiled torch on one GPU: pixels are copied on a stream of their own while the batch before is computed."""

    in_flight = 3

    def __init__(self, model: MorphologyModel, precision: Precision, batch_size: int) -> None:
        self.device = torch.device("cuda")
        self.batch_size, self.precision = batch_size, precision
        torch.backends.cudnn.benchmark = True
        self.model = model.eval().to(self.device)
        self.model.backbone.to(memory_format=torch.channels_last)
        self.network = torch.compile(self.model, dynamic=False)
        self.copies = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._compute(torch.zeros((batch_size, 3, *[model.spec.size_px] * 2), dtype=torch.uint8, device=self.device))

    def submit(self, pixels: Pixels) -> Answer:
        pinned = _padded(pixels, self.batch_size).pin_memory()
        with torch.cuda.stream(self.copies):
            on_device = pinned.to(self.device, non_blocking=True)
        computing = torch.cuda.current_stream()
        computing.wait_stream(self.copies)
        on_device.record_stream(computing)
        logits = self._compute(on_device).to("cpu", non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()
        return _Event(done, logits, pinned, len(pixels))

    @torch.inference_mode()
    def _compute(self, pixels: Pixels) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=self.precision == "bf16"):
            logits: torch.Tensor = self.network(pixels).float()
        return logits


class _Event:
    def __init__(self, done: torch.cuda.Event, logits: torch.Tensor, pinned: Pixels, count: int) -> None:
        self.done, self.logits, self.pinned, self.count = done, logits, pinned, count

    def result(self) -> Logits:
        self.done.synchronize()
        logits: Logits = self.logits[: self.count].numpy()
        return logits


def _padded(pixels: Pixels, batch_size: int) -> Pixels:
    missing = batch_size - len(pixels)
    return F.pad(pixels, (0, 0, 0, 0, 0, 0, 0, missing)) if missing else pixels
