"""What a network is, in words: architecture, classes, preprocessing, initial weights. Imports no torch."""

from dataclasses import dataclass

from galaxy_batch.decision_tree import Question

__all__ = ["PRETRAINED", "RANDOM", "ModelSpec"]

PRETRAINED = "pretrained"
"""Weights: the ImageNet weights that timm publishes for the architecture, from the model hub."""
RANDOM = "random"
"""Weights: every layer starts at random."""


@dataclass(frozen=True)
class ModelSpec:
    """How pixels become logits: everything that must be equal in training and inference."""

    architecture: str
    """Any image model of timm, by its name there."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the logits."""
    size_px: int
    """Side of the network's input."""
    crop_fraction: float
    """Share of the cutout's shorter side that the central crop keeps."""
    mean: tuple[float, float, float]
    """Per channel, of pixels scaled to 0…1; subtracted."""
    std: tuple[float, float, float]
    """Per channel, of pixels scaled to 0…1; divided by."""
    views: int = 1
    """Number of views (flips and quarter turns) whose probabilities are averaged: 1, 2, 4 or 8. The sky has no up, so
    more views are more accurate; each costs one forward pass."""
    further_views_below: float | None = None
    """Only cutouts whose first view has a `views.margin` below this get all `views`; the others are sure, and have one.
    None: every cutout gets them."""
    questions: tuple[Question, ...] = ()
    """Questions of the decision tree that the network answers, beside the classes."""
    embedding_size: int = 0
    """Number of components of `Embedding` in the checkpoint; 0 without."""
