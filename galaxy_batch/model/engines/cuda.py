"""Compiled torch on one NVIDIA GPU."""

from collections.abc import Sequence

import torch

from galaxy_batch.cutouts.decode import Pixels, resize
from galaxy_batch.model.engines.engine import ArrayOutput, PendingOutput, Precision
from galaxy_batch.model.network import MorphologyModel
from galaxy_batch.model.output import ModelOutput

__all__ = ["CudaEngine"]


class CudaEngine:
    """Copies the next batches to the GPU on a second stream while one is computed.

    Cutouts are copied at their own size; the GPU resizes and normalises them. The compiled code is kept in torch's
    cache (`TORCHINDUCTOR_CACHE_DIR`), so that the next actor on the machine starts faster.

    Args:
        model: in eval mode, on the CPU; moved to the GPU.
        precision: of the network's sums.
        batch_size: cutouts per forward pass.
    """

    in_flight, resizes = 2, True

    def __init__(self, model: MorphologyModel, precision: Precision, batch_size: int) -> None:
        self.device = torch.device("cuda")
        self.batch_size, self.precision, self.size_px = batch_size, precision, model.spec.size_px
        torch.backends.cudnn.benchmark = True
        self.predict = torch.compile(model.eval().to(self.device).predict, dynamic=False)
        self.copies = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.buffers: dict[int, list[Pixels]] = {}  # pinned, by side
        self.turn = 0
        blank = torch.zeros((3, self.size_px, self.size_px), dtype=torch.uint8)
        self.compute(self.load([blank])).result()  # compiles

    def load(self, cutouts: Sequence[Pixels]) -> tuple[Pixels, torch.cuda.Event, int]:
        """Copy the cutouts into a pinned buffer, and begin to copy that to the GPU."""
        pinned = self._buffer(cutouts[0].shape[-1])
        torch.stack(list(cutouts), out=pinned[: len(cutouts)])
        with torch.cuda.stream(self.copies):
            batch = pinned.to(self.device, non_blocking=True)
        return batch, self.copies.record_event(), len(cutouts)

    @torch.inference_mode()
    def compute(self, loaded: tuple[Pixels, torch.cuda.Event, int]) -> PendingOutput:
        """Queue the forward pass and the copy of its output on the GPU."""
        batch, copied, count = loaded
        computing = torch.cuda.current_stream()
        computing.wait_event(copied)
        batch.record_stream(computing)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.precision == "bf16"):
            output: ModelOutput[torch.Tensor] = self.predict(resize(batch, self.size_px, 1.0))
        output = output.map(lambda tensor: tensor.to("cpu", non_blocking=True))
        return _EventOutput(output, computing.record_event(), count)

    def _buffer(self, side: int) -> Pixels:
        """A pinned buffer that no open batch uses: they are used in turn, and each is collected before its next one."""
        if side not in self.buffers:
            shape = (self.batch_size, 3, side, side)
            self.buffers[side] = [
                torch.zeros(shape, dtype=torch.uint8, pin_memory=True) for _ in range(self.in_flight + 1)
            ]
        self.turn += 1
        return self.buffers[side][self.turn % (self.in_flight + 1)]


class _EventOutput:
    """Tensors in the host's memory, which are there when the event has happened."""

    def __init__(self, output: ModelOutput[torch.Tensor], copied: torch.cuda.Event, count: int) -> None:
        self.output, self.copied, self.count = output, copied, count

    def result(self) -> ArrayOutput:
        self.copied.synchronize()
        return self.output.map(lambda tensor: tensor[: self.count].numpy())
