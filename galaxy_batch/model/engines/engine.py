"""What every engine does: it takes batches of cutouts to the hardware and runs the network on views of them.

A batch is loaded, then computed, and its output collected later: while the network computes one batch, the next one is
decoded and copied to the device. Every batch has the same shape, the last one padded, so that one shape is compiled
once, and a cutout's output does not depend on the size of its batch.
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from galaxy_batch.cutouts.resize import Pixels
from galaxy_batch.model.output import ViewOutput

__all__ = ["BATCH_SIZES", "ArrayOutput", "Engine", "EngineName", "FinishedOutput", "PendingOutput", "Precision"]

ArrayOutput = ViewOutput[npt.NDArray[np.float32]]
EngineName = Literal["torch", "openvino", "cuda"]
Precision = Literal["fp32", "bf16"]

BATCH_SIZES: dict[EngineName, int] = {"openvino": 1, "torch": 16, "cuda": 512}
"""Cutouts per forward pass. OpenVINO takes one per core: its layers then fit the core's cache."""


class PendingOutput(Protocol):
    """The output for a batch that may still be computed."""

    def result(self) -> ArrayOutput:
        """Wait for the output for the cutouts of the batch, without padding."""


class FinishedOutput:
    """The output of an engine that computes at once.

    Args:
        output: for the cutouts of the batch, without padding.
    """

    def __init__(self, output: ArrayOutput) -> None:
        self.output = output

    def result(self) -> ArrayOutput:
        """The output; never waits."""
        return self.output


class Engine(Protocol):
    """A network, ready to compute."""

    batch_size: int
    """Cutouts in one batch, at most."""
    in_flight: int
    """Number of open forward passes that keeps the hardware busy; one more may be open."""
    resizes: bool
    """Whether the engine scales the cutouts to the network's size itself."""

    def load(self, cutouts: Sequence[Pixels]) -> Any:
        """Begin to copy a batch of cutouts to the device.

        Args:
            cutouts: uint8 ``(3, side, side)``, all of one side: the network's `size_px`, or any if the engine resizes.
        """

    def compute(self, loaded: Any, view: int) -> PendingOutput:
        """Begin the forward pass on one view, by its number, of what `load` returned."""
