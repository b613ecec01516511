"""What the frozen part of the network makes of each galaxy: computed once per symmetry, then kept."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from galaxy_batch.model.network import symmetry
from train.config import FitConfig, Phase
from train.fit.layers import Layers

__all__ = ["Examples", "FrozenFeatures"]

_FORWARD_BATCH = 64
_KEPT_BYTES = 4 << 30  # of memory; what does not fit is computed again in each epoch


@dataclass(frozen=True)
class Examples:
    """Galaxies to learn from."""

    pixels: torch.Tensor
    """``(N, 3, size_px, size_px)`` uint8."""
    targets: torch.Tensor
    """``(N, classes)`` float: the probability of each class; all on one class where there is a label."""
    answers: torch.Tensor
    """``(N, columns)`` float: vote fractions of the auxiliary questions; no columns where there are none."""


class FrozenFeatures:
    """Activations before the part that learns, of each galaxy in one symmetry per epoch.

    Each galaxy goes through its symmetries in an order of its own. Both phases share one pass of the lower
    blocks, since nothing but the head changes in the first.

    Args:
        layers: the model, as it is before the first phase.
        pixels: ``(N, 3, size_px, size_px)`` uint8.
        config: phases and symmetries.
        device: where the model is.
    """

    def __init__(self, layers: Layers, pixels: torch.Tensor, config: FitConfig, device: torch.device) -> None:
        self.layers, self.pixels, self.device = layers, pixels, device
        orders = np.tile(np.arange(config.symmetries), (len(pixels), 1))
        self.order = np.random.default_rng(config.seed).permuted(orders, axis=1)
        self.kept: dict[int, torch.Tensor] = {}
        phases = {phase.blocks: phase for phase in (config.head, config.blocks) if phase.epochs}
        wanted = {blocks: min(phase.epochs, config.symmetries) for blocks, phase in phases.items()}
        if not self._fits(wanted):
            return
        deepest = max(wanted)
        for version in range(max(wanted.values(), default=0)):
            for rows in np.array_split(np.arange(len(pixels)), -(-len(pixels) // _FORWARD_BATCH)):
                lower = self._compute(rows, version, deepest)
                for blocks, versions in wanted.items():
                    if version < versions:
                        self._keep(
                            blocks, versions, version, rows, lower if blocks == deepest else self._upper(lower, deepest)
                        )

    def batch(self, rows: npt.NDArray[np.int64], epoch: int, phase: Phase) -> torch.Tensor:
        """Activations of some galaxies in the symmetry that is their turn in this epoch, float32 on the device."""
        kept = self.kept.get(phase.blocks)
        if kept is None:
            return self._compute(rows, epoch, phase.blocks)
        values = kept[epoch % len(kept)][rows].float().to(self.device)
        return values.contiguous(memory_format=torch.channels_last) if values.dim() == 4 else values

    def _fits(self, wanted: dict[int, int]) -> bool:
        """Whether to keep them; with everything learning there is nothing frozen but the pixels themselves."""
        sizes = {blocks: self._compute(np.array([0]), 0, blocks)[0].numel() for blocks in wanted}
        everything_learns = max(wanted, default=0) >= len(self.layers.stages) - 1
        return not everything_learns and sum(2 * len(self.pixels) * wanted[b] * sizes[b] for b in wanted) <= _KEPT_BYTES

    def _keep(
        self, blocks: int, versions: int, version: int, rows: npt.NDArray[np.int64], values: torch.Tensor
    ) -> None:
        if blocks not in self.kept:
            shape = (versions, len(self.pixels), *values.shape[1:])
            self.kept[blocks] = torch.empty(shape, dtype=torch.float16)
        self.kept[blocks][version, rows] = values.half().cpu()

    @torch.no_grad()
    def _compute(self, rows: npt.NDArray[np.int64], epoch: int, blocks: int) -> torch.Tensor:
        chosen = self.order[rows, epoch % self.order.shape[1]]
        turned = torch.stack([symmetry(self.pixels[r : r + 1], int(s))[0] for r, s in zip(rows, chosen, strict=True)])
        with self._faster():
            return self.layers.frozen(turned.to(self.device), blocks).float()

    @torch.no_grad()
    def _upper(self, lower: torch.Tensor, blocks: int) -> torch.Tensor:
        with self._faster():
            return self.layers.pooled(lower, blocks).float()

    def _faster(self) -> torch.autocast:
        """16-bit floats where the processor calculates with them: what is kept has no more digits anyway."""
        capable = self.device.type == "cuda" or torch.cpu.get_capabilities().get("avx512_bf16", False)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=bool(capable))
