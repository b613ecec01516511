"""Compiled torch on one NVIDIA GPU."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from galaxy_batch.cutouts.resize import Pixels
from galaxy_batch.model.engines.engine import ArrayOutput, PendingOutput, Precision
from galaxy_batch.model.network import MorphologyModel, symmetry
from galaxy_batch.model.output import ViewOutput

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
        self.network = torch.compile(model.eval().to(self.device), dynamic=False)
        self.copies = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.buffers: dict[int, list[torch.Tensor]] = {}  # pinned, by side
        self.turn = 0
        self.compute(self.load([np.zeros((3, self.size_px, self.size_px), np.uint8)]), 0).result()  # compiles

    def load(self, cutouts: Sequence[Pixels]) -> "_LoadedBatch":
        """Copy the cutouts into a pinned buffer, and begin to copy that to the GPU."""
        pinned = self._buffer(cutouts[0].shape[-1])
        np.stack(cutouts, out=pinned.numpy()[: len(cutouts)])
        with torch.cuda.stream(self.copies):
            batch = pinned.to(self.device, non_blocking=True)
        return _LoadedBatch(batch, self.copies.record_event(), len(cutouts))

    @torch.inference_mode()
    def compute(self, loaded: "_LoadedBatch", view: int) -> PendingOutput:
        """Queue the forward pass and the copy of its output on the GPU."""
        computing = torch.cuda.current_stream()
        if not loaded.resized:
            computing.wait_event(loaded.copied)
            loaded.pixels.record_stream(computing)
            loaded.pixels, loaded.resized = _scaled(loaded.pixels, self.size_px), True
        pixels = symmetry(loaded.pixels, view).contiguous()  # one memory layout: another would be compiled again
        with torch.autocast("cuda", torch.bfloat16, enabled=self.precision == "bf16"):
            output: ViewOutput[torch.Tensor] = self.network(pixels)
        output = output.map(lambda tensor: tensor.to("cpu", non_blocking=True))
        return _EventOutput(output, computing.record_event(), loaded.count)

    def _buffer(self, side: int) -> torch.Tensor:
        """A pinned buffer that no open batch uses: they are used in turn, and each is collected before its next one."""
        if side not in self.buffers:
            shape = (self.batch_size, 3, side, side)
            self.buffers[side] = [
                torch.zeros(shape, dtype=torch.uint8, pin_memory=True) for _ in range(self.in_flight + 1)
            ]
        self.turn += 1
        return self.buffers[side][self.turn % (self.in_flight + 1)]


@dataclass
class _LoadedBatch:
    pixels: torch.Tensor
    """On the GPU, padded; of the network's size once `resized`."""
    copied: torch.cuda.Event
    count: int
    """Cutouts, without padding."""
    resized: bool = False


def _scaled(pixels: torch.Tensor, size_px: int) -> torch.Tensor:
    """As `cutouts.resize`, but in float, then rounded."""
    if pixels.shape[-1] == size_px:
        return pixels
    scaled = F.interpolate(pixels.float(), (size_px, size_px), mode="bilinear", antialias=True, align_corners=False)
    return scaled.round_().clamp_(0, 255).to(torch.uint8)


class _EventOutput:
    """Tensors in the host's memory, which are there when the event has happened."""

    def __init__(self, output: ViewOutput[torch.Tensor], copied: torch.cuda.Event, count: int) -> None:
        self.output, self.copied, self.count = output, copied, count

    def result(self) -> ArrayOutput:
        self.copied.synchronize()
        return self.output.map(lambda tensor: tensor[: self.count].numpy())
