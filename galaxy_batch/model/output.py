"""What the network gives for one view of cutouts, and the model for all views, tensor by name."""

from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

__all__ = ["ModelOutput", "ViewOutput"]

T = TypeVar("T")
U = TypeVar("U")


class ViewOutput(NamedTuple, Generic[T]):
    """What the network gives for one view of N cutouts: torch tensors, or float32 NumPy arrays from an engine."""

    class_logits: T
    """``(N, classes)``, before the temperature."""
    squared_distance: T
    """``(N,)``: of `Familiarity`, 1 on average for training galaxies; nan without statistics."""
    concentrations: T
    """``(N, answers)``: Dirichlet concentrations of the answers of all questions; no columns without questions."""
    embedding: T
    """``(N, size)``: of `Embedding`; no columns without its components."""

    def map(self, function: Callable[[T], U]) -> "ViewOutput[U]":
        """Apply a function to every tensor."""
        return ViewOutput(*map(function, self))


class ModelOutput(NamedTuple, Generic[T]):
    """Predictions for N cutouts, from all views of them.

    A field with the name of a `MODEL_COLUMNS` entry of `rows.py` becomes that column of the catalog.
    """

    class_logits: T
    """``(N, classes)``, before the temperature."""
    unfamiliarity: T
    """``(N,)``: distance of `Familiarity`, 1 for an average training galaxy; nan without statistics. With several
    views, the root of the mean squared distance."""
    instability: T
    """``(N,)``: standard deviation of a class's probability over the views, of the class where it is largest: at most
    0.5; nan with one view."""
    concentrations: T
    """``(N, answers)``: Dirichlet concentrations of the answers of all questions, the mean over the views."""
    embedding: T
    """``(N, size)``: of `Embedding`, the mean over the views."""

    def map(self, function: Callable[[T], U]) -> "ModelOutput[U]":
        """Apply a function to every tensor."""
        return ModelOutput(*map(function, self))

    @staticmethod
    def join(outputs: "Iterable[ModelOutput[U]]", concatenate: Callable[[tuple[U, ...]], U]) -> "ModelOutput[U]":
        """The output for all cutouts of several batches; `concatenate` is `torch.cat` or `numpy.concatenate`."""
        return ModelOutput(*map(concatenate, zip(*outputs, strict=True)))
