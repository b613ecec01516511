"""Plain torch on a CPU."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from galaxy_batch.cutouts.resize import Pixels
from galaxy_batch.model.engines.engine import FinishedOutput, PendingOutput, Precision
from galaxy_batch.model.network import MorphologyModel
from galaxy_batch.model.views import view_of

__all__ = ["TorchEngine"]


class TorchEngine:
    """Computes in the calling thread while other threads decode.

    The last batch is padded here too: another batch size may sum in another order, and a cutout's logits would then
    depend on how many cutouts it is computed with.

    Args:
        model: in eval mode, on the CPU.
        precision: of the network's sums.
        batch_size: cutouts per forward pass.
        threads: CPU threads of the forward pass.
    """

    in_flight, resizes = 0, False

    def __init__(self, model: MorphologyModel, precision: Precision, batch_size: int, threads: int) -> None:
        torch.set_num_threads(threads)
        self.model, self.precision, self.batch_size = model.eval(), precision, batch_size

    def load(self, cutouts: Sequence[Pixels]) -> tuple[npt.NDArray[np.uint8], int]:
        """Copy the cutouts into one padded batch."""
        batch = np.zeros((self.batch_size, *cutouts[0].shape), np.uint8)
        np.stack(cutouts, out=batch[: len(cutouts)])
        return batch, len(cutouts)

    @torch.inference_mode()
    def compute(self, loaded: tuple[npt.NDArray[np.uint8], int], view: int) -> PendingOutput:
        """Run the forward pass."""
        batch, count = loaded
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            output = self.model(torch.from_numpy(np.ascontiguousarray(view_of(batch, view))))
        return FinishedOutput(output.map(lambda tensor: tensor.float().numpy()[:count]))
