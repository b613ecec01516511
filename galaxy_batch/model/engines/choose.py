"""Which engine computes the network, by name or by what is installed."""

import importlib.util

from galaxy_batch.model.engines.cuda import CudaEngine
from galaxy_batch.model.engines.engine import Engine, EngineName, Precision
from galaxy_batch.model.engines.openvino import OpenVinoEngine
from galaxy_batch.model.engines.torch_cpu import TorchEngine
from galaxy_batch.model.network import MorphologyModel

__all__ = ["choose_engine", "make_engine"]


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
        precision: of the network's sums: `bf16` is faster where the processor supports it, and loses two digits.
        batch_size: cutouts per forward pass.
        threads: CPU threads of the forward pass; unused on a GPU.

    Raises:
        InputError: `openvino` is not installed.
    """
    if name == "cuda":
        return CudaEngine(model, precision, batch_size)
    if name == "openvino":
        return OpenVinoEngine(model, precision, batch_size, threads)
    return TorchEngine(model, precision, batch_size, threads)
