"""A trained model in one self-describing safetensors file, which cannot run code."""

import dataclasses
import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.torch
import torch

from galaxy_batch.checkpoints import BUILTIN, read_builtin
from galaxy_batch.errors import InputError
from galaxy_batch.model.familiarity import Familiarity
from galaxy_batch.model.network import ModelSpec, MorphologyModel
from galaxy_batch.storage.files import read_bytes, write_atomically

__all__ = ["Checkpoint", "agreement", "load_checkpoint", "round_to_fp16", "save_checkpoint"]

_KEY = "galaxy_batch"  # one key: safetensors does not order several, and equal checkpoints must be equal bytes
_FORMAT = 1
_FAMILIARITY = "familiarity."  # prefix of its tensors; all others are the backbone's
_MIN_SAME_CLASS, _MAX_DIFFERENCE = 0.999, 0.01  # bf16 may change one class in 1000, and probabilities by 0.01


@dataclass(frozen=True)
class Checkpoint:
    """Everything that inference needs of a trained model, except its tensors."""

    spec: ModelSpec
    """Architecture, classes and preprocessing."""
    temperature: float
    """Divides the logits before the softmax, so that confidence is a probability."""
    min_confidence: float
    """Review threshold: predictions below it are flagged LOW_CONFIDENCE."""
    label_rule: Mapping[str, Any]
    """How votes were turned into labels: columns, threshold, classes."""
    accuracy: float
    """Share of correct predictions on held-out galaxies with a clear label."""
    ece: float
    """Expected calibration error on the same galaxies."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Provenance: config, counts, library versions."""
    checkpoint_id: str = ""
    """First 16 hex digits of the file's SHA-256; set when the checkpoint is read or written."""
    bf16_agreement: Mapping[str, float] = field(default_factory=dict)
    """`agreement` of bf16 with fp32 on the same galaxies; empty if not measured."""
    max_unfamiliarity: float | None = None
    """Cutouts above it are flagged UNFAMILIAR; 1 is an average training galaxy. None without statistics of the training
    galaxies."""
    max_instability: float | None = None
    """Cutouts above it are flagged UNSTABLE, if several views are compared. None if not measured."""

    @property
    def bf16_agrees(self) -> bool:
        """Whether bf16 gives practically the same catalog as fp32."""
        measured = self.bf16_agreement
        return (
            bool(measured)
            and measured["same_class"] >= _MIN_SAME_CLASS
            and measured["difference_p99"] <= _MAX_DIFFERENCE
        )


def agreement(probabilities: npt.NDArray[np.floating], reference: npt.NDArray[np.floating]) -> dict[str, float]:
    """How well class probabilities ``(N, classes)`` agree with a reference for the same galaxies.

    Returns:
        `same_class`, the share with the same class; `difference_p99`, the 99th percentile over galaxies of the largest
        difference of a probability.
    """
    differences = np.abs(probabilities - reference).max(axis=1)
    return {
        "same_class": float((probabilities.argmax(axis=1) == reference.argmax(axis=1)).mean()),
        "difference_p99": float(np.quantile(differences, 0.99)),
    }


def save_checkpoint(uri: str, checkpoint: Checkpoint, model: MorphologyModel, fp16: bool = False) -> Checkpoint:
    """Write one `.safetensors` file; returns the checkpoint with its content id.

    The same tensors and description always give the same bytes, hence the same id.

    Args:
        uri: of the file.
        checkpoint: its description.
        model: its tensors.
        fp16: store the weights in half precision, as `round_to_fp16` rounds them.
    """
    description = dataclasses.asdict(dataclasses.replace(checkpoint, checkpoint_id=""))
    del description["checkpoint_id"]
    text = json.dumps({"format": _FORMAT, **description}, sort_keys=True)
    state = dict(model.backbone.state_dict())
    if model.familiarity is not None:
        state |= {_FAMILIARITY + name: tensor for name, tensor in model.familiarity.state_dict().items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(state.items())}
    if fp16:
        tensors = {name: tensor.half() if _has_fp16(name, tensor) else tensor for name, tensor in tensors.items()}
    content = safetensors.torch.save(tensors, metadata={_KEY: text})
    write_atomically(uri, content)
    return dataclasses.replace(checkpoint, checkpoint_id=_content_id(content))


def round_to_fp16(model: MorphologyModel) -> None:
    """Round the weights to half precision, in place: then a file with `fp16` has exactly this model."""
    with torch.no_grad():
        for name, tensor in model.backbone.state_dict().items():
            if _has_fp16(name, tensor):
                tensor.copy_(tensor.half())


def load_checkpoint(uri: str) -> tuple[Checkpoint, MorphologyModel]:
    """Read a checkpoint and build its model, in eval mode on the CPU.

    Raises:
        InputError: the file does not exist, is not a checkpoint of this project, or its layers do not fit.
    """
    try:
        content = read_builtin(uri) if uri.startswith(BUILTIN) else read_bytes(uri)
    except (FileNotFoundError, IsADirectoryError):
        raise InputError("checkpoint_uri", uri, "no such file; jobs.train_model writes one") from None
    except PermissionError as error:
        raise InputError("checkpoint_uri", uri, f"cannot be read: {error}") from None
    checkpoint = _describe(uri, content)
    model = MorphologyModel(checkpoint.spec)
    try:
        tensors: dict[str, torch.Tensor] = safetensors.torch.load(content)
        statistics = {name: tensors.pop(name) for name in list(tensors) if name.startswith(_FAMILIARITY)}
        model.backbone.load_state_dict(tensors)
        if statistics:
            model.familiarity = Familiarity(**{n.removeprefix(_FAMILIARITY): t for n, t in statistics.items()})
    except (safetensors.SafetensorError, RuntimeError, TypeError, ValueError) as error:
        raise InputError("checkpoint_uri", uri, f"the tensors do not fit the description: {error}") from None
    return checkpoint, model.eval()


def _describe(uri: str, content: bytes) -> Checkpoint:
    try:
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        description = json.loads(header["__metadata__"][_KEY])
        version = description.pop("format")
        spec = description.pop("spec")
        if version != _FORMAT:
            raise InputError("checkpoint_uri", uri, f"format {version}; this version reads format {_FORMAT}")
        for name in ("classes", "mean", "std"):
            spec[name] = tuple(spec[name])
        return Checkpoint(spec=ModelSpec(**spec), checkpoint_id=_content_id(content), **description)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            "checkpoint_uri", uri, "not a galaxy_batch checkpoint (.safetensors); jobs.train_model writes one"
        ) from None


def _has_fp16(name: str, tensor: torch.Tensor) -> bool:
    """Convolutions and linear layers; the few numbers of batch norms and of familiarity may exceed its range."""
    return tensor.is_floating_point() and tensor.dim() > 1 and not name.startswith(_FAMILIARITY)


def _content_id(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
