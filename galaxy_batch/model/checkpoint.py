"""The description of a trained model, in its safetensors file, which cannot run code. Imports no torch.

The tensors of the file are loaded by `saved_model`.
"""

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

from galaxy_batch.checkpoints import read_model_file
from galaxy_batch.decision_tree import Question
from galaxy_batch.errors import InputError
from galaxy_batch.model.spec import ModelSpec

__all__ = [
    "EMBEDDING",
    "FAMILIARITY",
    "QUESTIONS",
    "Checkpoint",
    "CheckpointFile",
    "agreement",
    "content_id",
    "file_metadata",
    "read_checkpoint",
]

FAMILIARITY, QUESTIONS, EMBEDDING = "familiarity.", "questions.", "embedding."
"""Prefixes of tensors: statistics of the training galaxies, head of the questions, projection of the features; all
others are the backbone's."""

_KEY = "galaxy_batch"  # one key: safetensors does not order several, and equal checkpoints must be equal bytes
_FORMAT = 1
_STATISTICS = {FAMILIARITY + name for name in ("mean", "scale", "axes", "variance", "rest")}
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


@dataclass(frozen=True)
class CheckpointFile:
    """A file whose description and table of tensors are valid; whether the network takes them is not known yet."""

    uri: str
    checkpoint: Checkpoint
    has_statistics: bool
    """Whether there are statistics of the training galaxies."""
    content: bytes
    """The whole file."""


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


def read_checkpoint(uri: str) -> CheckpointFile:
    """Read a checkpoint without building its model.

    Raises:
        InputError: the file does not exist, is truncated, or is not a checkpoint of this project.
    """
    try:
        content = read_model_file(uri, "checkpoint_uri")
    except (FileNotFoundError, IsADirectoryError):
        raise InputError("checkpoint_uri", uri, "no such file; jobs.train_model writes one") from None
    except PermissionError as error:
        raise InputError("checkpoint_uri", uri, f"cannot be read: {error}") from None
    checkpoint = _described(uri, content)
    try:
        names = {name for name, _ in safetensors.deserialize(content)}  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise InputError("checkpoint_uri", uri, f"the tensors do not fit the description: {error}") from None
    statistics = {name for name in names if name.startswith(FAMILIARITY)}
    if statistics and statistics != _STATISTICS:
        differing = ", ".join(sorted(statistics ^ _STATISTICS))
        raise InputError("checkpoint_uri", uri, f"the tensors do not fit the description: {differing}")
    return CheckpointFile(uri, checkpoint, bool(statistics), content)


def file_metadata(checkpoint: Checkpoint) -> dict[str, str]:
    """The description as metadata of a safetensors file."""
    description = dataclasses.asdict(checkpoint)
    del description["checkpoint_id"]
    return {_KEY: json.dumps({"format": _FORMAT, **description}, sort_keys=True)}


def content_id(content: bytes) -> str:
    """The first 16 hex digits of the SHA-256 of a file."""
    return hashlib.sha256(content).hexdigest()[:16]


def _described(uri: str, content: bytes) -> Checkpoint:
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
        spec["questions"] = tuple(map(Question.from_json, spec.get("questions", ())))
        return Checkpoint(spec=ModelSpec(**spec), checkpoint_id=content_id(content), **description)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            "checkpoint_uri", uri, "not a galaxy_batch checkpoint (.safetensors); jobs.train_model writes one"
        ) from None
