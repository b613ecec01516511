"""Plain torch on a CPU."""

from collections.abc import Sequence

import torch

from galaxy_batch.cutouts.decode import Pixels
from galaxy_batch.model.engines.engine import FinishedOutput, PendingOutput, Precision
from galaxy_batch.model.network import MorphologyModel

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

    def load(self, cutouts: Sequence[Pixels]) -> tuple[Pixels, int]:
        """Copy the cutouts into one padded batch."""
        batch = torch.zeros((self.batch_size, *cutouts[0].shape), dtype=torch.uint8)
        torch.stack(list(cutouts), out=batch[: len(cutouts)])
        return batch, len(cutouts)

    @torch.inference_mode()
    def compute(self, loaded: tuple[Pixels, int]) -> PendingOutput:
        """Run the forward pass."""
        batch, count = loaded
        with torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16"):
            output = self.model.predict(batch)
        return FinishedOutput(output.map(lambda tensor: tensor.numpy()[:count]))
