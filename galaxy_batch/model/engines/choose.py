"""Which engine computes the network, by name or by what is installed.

Each engine's packages are imported when it is made: OpenVINO needs neither torch nor timm for a converted network.
"""

import importlib.util
from typing import TYPE_CHECKING

from galaxy_batch.model.checkpoint import CheckpointFile, read_checkpoint
from galaxy_batch.model.engines.engine import Engine, EngineName, Precision
from galaxy_batch.model.engines.network_cache import cached_network, keep_network

if TYPE_CHECKING:
    from galaxy_batch.model.network import MorphologyModel

__all__ = ["choose_engine", "converted_network", "load_engine", "make_engine"]


def choose_engine() -> EngineName:
    """The fastest engine for CPUs that is installed."""
    return "openvino" if importlib.util.find_spec("openvino") else "torch"


def load_engine(
    name: EngineName,
    file: CheckpointFile,
    precision: Precision,
    batch_size: int,
    threads: int,
    network: bytes | None = None,
) -> Engine:
    """Load the model of a checkpoint into an engine; arguments as in `make_engine`.

    Args:
        name: which engine.
        file: the checkpoint.
        precision: of the network's sums.
        batch_size: cutouts per forward pass.
        threads: CPU threads of the forward pass.
        network: what `converted_network` gives, where it is at hand.

    Raises:
        InputError: the layers do not fit the architecture, or `openvino` is not installed.
    """
    if name == "openvino":
        from galaxy_batch.model.engines.openvino import OpenVinoEngine  # noqa: PLC0415 - an optional dependency

        return OpenVinoEngine(network or _converted_network(file, batch_size), precision, threads)
    from galaxy_batch.model.saved_model import load_model  # noqa: PLC0415 - torch takes seconds

    return make_engine(name, load_model(file), precision, batch_size, threads)


def make_engine(
    name: EngineName, model: "MorphologyModel", precision: Precision, batch_size: int, threads: int
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
        from galaxy_batch.model.engines.cuda import CudaEngine  # noqa: PLC0415

        return CudaEngine(model, precision, batch_size)
    if name == "openvino":
        from galaxy_batch.model.engines.conversion import converted  # noqa: PLC0415
        from galaxy_batch.model.engines.openvino import OpenVinoEngine  # noqa: PLC0415

        return OpenVinoEngine(converted(model, batch_size), precision, threads)
    from galaxy_batch.model.engines.torch_cpu import TorchEngine  # noqa: PLC0415

    return TorchEngine(model, precision, batch_size, threads)


def converted_network(checkpoint_uri: str, batch_size: int) -> bytes:
    """The network of a checkpoint for OpenVINO: from the cache, or converted and kept there.

    Raises:
        InputError: the checkpoint cannot be used.
    """
    return _converted_network(read_checkpoint(checkpoint_uri), batch_size)


def _converted_network(file: CheckpointFile, batch_size: int) -> bytes:
    checkpoint_id = file.checkpoint.checkpoint_id
    network = cached_network(checkpoint_id, batch_size)
    if network is None:
        from galaxy_batch.model.engines.conversion import converted  # noqa: PLC0415 - torch and timm take seconds
        from galaxy_batch.model.saved_model import load_model  # noqa: PLC0415

        network = converted(load_model(file), batch_size)
        keep_network(checkpoint_id, batch_size, network)
    return network
