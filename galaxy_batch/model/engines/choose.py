"""What turns pixels into answers, on the hardware that there is: OpenVINO or torch on CPUs, compiled torch on GPUs.

A batch is loaded, then computed, and its answer collected later, so that the next batch is decoded and brought to
the device while this one is in the network. Every batch has the same shape, the last one padded: one shape is
compiled once.
"""

import importlib.util
import warnings
from collections.abc import Sequence
from itertools import cycle
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from galaxy_batch.cutouts.decode import Pixels, resize
from galaxy_batch.errors import InputError
from galaxy_batch.model.network import MorphologyModel

__all__ = ["BATCH_SIZES", "Answer", "Engine", "EngineName", "Precision", "choose_engine", "make_engine"]

Answers = npt.NDArray[np.float32]
EngineName = Literal["torch", "openvino", "cuda"]
Precision = Literal["fp32", "bf16"]

BATCH_SIZES: dict[EngineName, int] = {"openvino": 1, "torch": 16, "cuda": 512}
"""Cutouts per forward pass. OpenVINO works on one per core, whose layers then fit the core's cache."""


class Answer(Protocol):
    """What `MorphologyModel.answer` gives, which may not be there yet."""

    def result(self) -> Answers:
        """Wait for it: logits, unfamiliarity, instability, ``(N, classes + 2)``, for the N cutouts of the batch."""


class Engine(Protocol):
    """A network, ready to compute."""

    batch_size: int
    """Cutouts in one batch, at most."""
    in_flight: int
    """Batches that are worth having open at a time; at most one more may be."""
    resizes: bool
    """Whether it scales the cutouts to the network's size itself."""

    def load(self, cutouts: Sequence[Pixels]) -> Any:
        """Begin to bring a batch of cutouts to the device, each uint8 ``(3, side, side)``, all of one side.

        The side is the network's `size_px`, or any where the engine resizes.
        """

    def compute(self, loaded: Any) -> Answer:
        """Begin to compute the answers to what `load` gave."""


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

    def __init__(self, answers: Answers) -> None:
        self.answers = answers

    def result(self) -> Answers:
        return self.answers


class _Torch:
    """Plain torch on a CPU: computes at once, while other threads decode.

    A batch of another size may be summed in another order, so the last one is padded here too: then a cutout's logits
    are the same to the bit, whichever cutouts it is computed with.
    """

    in_flight, resizes = 0, False

    def __init__(self, model: MorphologyModel, precision: Precision, batch_size: int, threads: int) -> None:
        torch.set_num_threads(threads)
        self.model, self.precision, self.batch_size = model.eval(), precision, batch_size

    def load(self, cutouts: Sequence[Pixels]) -> tuple[Pixels, int]:
        batch = torch.zeros((self.batch_size, *cutouts[0].shape), dtype=torch.uint8)
        torch.stack(list(cutouts), out=batch[: len(cutouts)])
        return batch, len(cutouts)

    @torch.inference_mode()
    def compute(self, loaded: tuple[Pixels, int]) -> Answer:
        batch, count = loaded
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            return _Ready(self.model.answer(batch).float().numpy()[:count])


class _Answering(nn.Module):
    """A model whose forward pass is its `answer`."""

    def __init__(self, model: MorphologyModel) -> None:
        super().__init__()
        self.model = model.eval()

    def forward(self, pixels: Pixels) -> torch.Tensor:
        return self.model.answer(pixels)


class _OpenVino:
    """OpenVINO's CPU plugin: one stream per thread, each with a batch of its own."""

    resizes = False

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
            shape = [batch_size, 3, size, size]
            converted = openvino.convert_model(_Answering(model), example_input=example, input=[shape])
        options = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        }
        compiled = openvino.Core().compile_model(converted, "CPU", options)
        self.requests = cycle([compiled.create_infer_request() for _ in range(self.in_flight + 1)])

    def load(self, cutouts: Sequence[Pixels]) -> tuple[Any, int]:
        request = next(self.requests)
        batch = request.get_input_tensor(0).data
        for place, cutout in zip(batch, cutouts, strict=False):
            place[:] = cutout.numpy()
        return request, len(cutouts)

    def compute(self, loaded: tuple[Any, int]) -> Answer:
        loaded[0].start_async()
        return _Request(*loaded)


class _Request:
    def __init__(self, request: Any, count: int) -> None:
        self.request, self.count = request, count

    def result(self) -> Answers:
        self.request.wait()
        answers: Answers = self.request.get_output_tensor(0).data[: self.count].astype(np.float32)
        return answers


class _Cuda:
    """Compiled torch on one GPU: a stream of its own brings the next batches while one is computed.

    The cutouts travel as they are, and the GPU resizes and normalises them. The compiled code is kept where torch
    keeps it (`TORCHINDUCTOR_CACHE_DIR`), so that the next actor on the machine starts faster.
    """

    in_flight, resizes = 2, True

    def __init__(self, model: MorphologyModel, precision: Precision, batch_size: int) -> None:
        self.device = torch.device("cuda")
        self.batch_size, self.precision, self.size_px = batch_size, precision, model.spec.size_px
        torch.backends.cudnn.benchmark = True
        self.network = torch.compile(_Answering(model).to(self.device), dynamic=False)
        self.copies = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.buffers: dict[int, list[Pixels]] = {}  # pinned, by side
        self.turn = 0
        blank = torch.zeros((3, self.size_px, self.size_px), dtype=torch.uint8)
        self.compute(self.load([blank])).result()  # compiles

    def load(self, cutouts: Sequence[Pixels]) -> tuple[Pixels, torch.cuda.Event, int]:
        pinned = self._buffer(cutouts[0].shape[-1])
        torch.stack(list(cutouts), out=pinned[: len(cutouts)])
        with torch.cuda.stream(self.copies):
            batch = pinned.to(self.device, non_blocking=True)
        return batch, self.copies.record_event(), len(cutouts)

    @torch.inference_mode()
    def compute(self, loaded: tuple[Pixels, torch.cuda.Event, int]) -> Answer:
        batch, copied, count = loaded
        computing = torch.cuda.current_stream()
        computing.wait_event(copied)
        batch.record_stream(computing)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.precision == "bf16"):
            answers = self.network(resize(batch, self.size_px, 1.0)).float()
        return _Event(answers.to("cpu", non_blocking=True), computing.record_event(), count)

    def _buffer(self, side: int) -> Pixels:
        """A pinned buffer that no open batch uses: they are taken in turn, and a batch is collected before its turn."""
        if side not in self.buffers:
            shape = (self.batch_size, 3, side, side)
            self.buffers[side] = [
                torch.zeros(shape, dtype=torch.uint8, pin_memory=True) for _ in range(self.in_flight + 1)
            ]
        self.turn += 1
        return self.buffers[side][self.turn % (self.in_flight + 1)]


class _Event:
    def __init__(self, answers: torch.Tensor, done: torch.cuda.Event, count: int) -> None:
        self.answers, self.done, self.count = answers, done, count

    def result(self) -> Answers:
        self.done.synchronize()
        answers: Answers = self.answers[: self.count].numpy()
        return answers
