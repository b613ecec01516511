"""Grad-CAM from a converted network, without torch.

Where a network ends with the mean over a feature map and one linear layer, the gradient of a class logit is the weight
of each channel in that layer, divided by the number of cells (Selvaraju et al. 2017, ICCV, section 3.1). So the forward
pass is enough. These layers are looked for in OpenVINO's graph, whatever the architecture.
"""

import io
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from galaxy_batch.cutouts.resize import Pixels

__all__ = ["class_maps"]

_SAME_VALUES = ("Convert", "Reshape", "Squeeze")


def class_maps(
    network: bytes, cutouts: Sequence[Pixels], classes: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32] | None:
    """What `grad_cam` gives, of the same cutouts and classes.

    Args:
        network: what `converted` gives, for one cutout.
        cutouts: at least one, uint8 ``(3, size_px, size_px)``.
        classes: ``(N,)``: class to explain for each cutout.

    Returns:
        ``(N, cells, cells)``, not negative; None where the network does not end with a mean and a linear layer.
    """
    import openvino  # noqa: PLC0415 - an optional dependency

    core = openvino.Core()
    with zipfile.ZipFile(io.BytesIO(network)) as members:
        model = core.read_model(members.read("network.xml"), members.read("network.bin"))
    found = _last_layers(model.output("class_logits").get_node())
    if found is None:
        return None
    features, weights = found
    forward = core.compile_model(
        openvino.Model([features], model.get_parameters()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    maps = []
    for cutout, label in zip(cutouts, classes, strict=True):
        values = forward(cutout[None])[0][0]
        channels = weights[label] / (values.shape[1] * values.shape[2])
        maps.append(np.maximum(np.tensordot(channels, values, axes=1), 0).astype(np.float32))
    return np.stack(maps)


def _last_layers(result: Any) -> tuple[Any, npt.NDArray[np.float32]] | None:
    """The feature map ``(1, channels, h, w)`` and the linear layer's weights ``(classes, channels)``."""
    node = _before(result, "Result", "Convert")
    if node.get_type_name() == "Add":  # the bias
        node = node.input_value(0).get_node()
    if node.get_type_name() != "MatMul" or node.input_value(1).get_node().get_type_name() != "Constant":
        return None
    weights = node.input_value(1).get_node().data
    weights = weights if node.get_attributes()["transpose_b"] else weights.T
    node = _before(node.input_value(0).get_node(), *_SAME_VALUES)
    if node.get_type_name() != "ReduceMean":
        return None
    features, axes = node.input_value(0), node.input_value(1).get_node().data
    shape = features.get_partial_shape()
    if len(shape) != 4 or sorted(axes % 4) != [2, 3] or shape[1].get_length() != weights.shape[1]:
        return None
    return features, weights


def _before(node: Any, *kinds: str) -> Any:
    """The first node, going back from this one, that is none of these kinds."""
    while node.get_type_name() in kinds:
        node = node.input_value(0).get_node()
    return node
