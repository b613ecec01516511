"""Conversion of a model to OpenVINO's format: one view of the network, for one batch size."""

import io
import tempfile
import warnings
import zipfile
from pathlib import Path

import openvino
import torch
from torch import nn

from galaxy_batch.model.network import MorphologyModel
from galaxy_batch.model.output import ViewOutput

__all__ = ["converted"]


def converted(model: MorphologyModel, batch_size: int) -> bytes:
    """The network of a model, in eval mode on the CPU, as `OpenVinoEngine` reads it."""
    size = model.spec.size_px
    example = torch.zeros((1, 3, size, size), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of constants, and that it is deprecated
        shape = [batch_size, 3, size, size]
        network = openvino.convert_model(_NamedOutputs(model), example_input=example, input=[shape])
    archive = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="openvino-") as folder, zipfile.ZipFile(archive, "w") as members:
        openvino.save_model(network, Path(folder) / "network.xml", compress_to_fp16=False)
        for name in ("network.xml", "network.bin"):
            members.write(Path(folder) / name, name)
    return archive.getvalue()


class _NamedOutputs(nn.Module):
    """Traced by OpenVINO, which names its outputs by the keys of the dictionary."""

    def __init__(self, model: MorphologyModel) -> None:
        super().__init__()
        self.model = model.eval()

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        output: ViewOutput[torch.Tensor] = self.model(pixels)
        return {
            name: tensor for name, tensor in output._asdict().items() if tensor.numel()
        }  # OpenVINO has no empty ones
