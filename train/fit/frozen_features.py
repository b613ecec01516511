"""Activations of the frozen part of the network, computed once per galaxy and symmetry and kept in memory."""

import numpy as np
import numpy.typing as npt
import torch

from galaxy_batch.model.network import symmetry
from galaxy_batch.runtime.progress import with_progress
from train.config import FitConfig, Phase
from train.fit.layers import Layers

__all__ = ["FrozenFeatures", "has_bf16"]

_FORWARD_BATCH = 64
_MAX_BYTES = 4 << 30  # of memory; beyond it, activations are recomputed in each epoch


class FrozenFeatures:
    """Inputs of the trainable part: frozen activations of each galaxy, in one symmetry per epoch.

    Each galaxy goes through its symmetries in its own random order. One pass through the frozen blocks serves both
    phases, because phase 1 changes the head only.

    Args:
        layers: the model before phase 1.
        pixels: ``(N, 3, size_px, size_px)`` uint8.
        config: phases and symmetries.
        device: of the model.
    """

    def __init__(self, layers: Layers, pixels: torch.Tensor, config: FitConfig, device: torch.device) -> None:
        self.layers, self.pixels, self.device = layers, pixels, device
        orders = np.tile(np.arange(config.symmetries), (len(pixels), 1))
        self.order = np.random.default_rng(config.seed).permuted(orders, axis=1)
        self.kept: dict[int, torch.Tensor] = {}
        """float16 ``(versions, N, …)`` by number of trainable blocks; a version is one symmetry of every galaxy."""
        phases = {phase.blocks: phase for phase in (config.head, config.blocks) if phase.epochs}
        versions = {blocks: min(phase.epochs, config.symmetries) for blocks, phase in phases.items()}
        if self._should_keep(versions):
            self._compute_all(versions)

    def batch(self, rows: npt.NDArray[np.int64], epoch: int, phase: Phase) -> torch.Tensor:
        """Activations of some galaxies in this epoch's symmetry, float32 on the device."""
        kept = self.kept.get(phase.blocks)
        if kept is None:
            return self._compute(rows, epoch, phase.blocks)
        values = kept[epoch % len(kept)][rows].float().to(self.device)
        return values.contiguous(memory_format=torch.channels_last) if values.dim() == 4 else values

    def _should_keep(self, versions: dict[int, int]) -> bool:
        """Whether the activations fit in memory; there are none to keep if every block is trainable."""
        if max(versions, default=0) >= len(self.layers.stages) - 1:
            return False
        sizes = {blocks: self._compute(np.array([0]), 0, blocks)[0].numel() for blocks in versions}
        return sum(2 * len(self.pixels) * versions[b] * sizes[b] for b in versions) <= _MAX_BYTES

    def _compute_all(self, versions: dict[int, int]) -> None:
        deepest = max(versions, default=0)
        count = max(versions.values(), default=0)
        batches = np.array_split(np.arange(len(self.pixels)), -(-len(self.pixels) // _FORWARD_BATCH))
        work = [(version, rows) for version in range(count) for rows in batches]
        step = f"features of {count} views"
        for version, rows in with_progress(work, step, count * len(self.pixels), lambda item: len(item[1])):
            lower = self._compute(rows, version, deepest)
            for blocks in (b for b in versions if version < versions[b]):
                values = lower if blocks == deepest else self._pooled(lower, deepest)
                if blocks not in self.kept:
                    shape = (versions[blocks], len(self.pixels), *values.shape[1:])
                    self.kept[blocks] = torch.empty(shape, dtype=torch.float16)
                self.kept[blocks][version, rows] = values.half().cpu()

    @torch.no_grad()
    def _compute(self, rows: npt.NDArray[np.int64], epoch: int, blocks: int) -> torch.Tensor:
        chosen = self.order[rows, epoch % self.order.shape[1]]
        images = torch.stack([symmetry(self.pixels[r : r + 1], int(s))[0] for r, s in zip(rows, chosen, strict=True)])
        with self._autocast():
            return self.layers.frozen(images.to(self.device), blocks).float()

    @torch.no_grad()
    def _pooled(self, lower: torch.Tensor, blocks: int) -> torch.Tensor:
        with self._autocast():
            return self.layers.pooled(lower, blocks).float()

    def _autocast(self) -> torch.autocast:
        """bf16 where the processor has it; the kept activations are 16-bit in any case."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=has_bf16(self.device))


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bf16; other CPUs emulate it, ten times slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
