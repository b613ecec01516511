"""What one forward pass gives, tensor by name."""

from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

__all__ = ["ModelOutput"]

T = TypeVar("T")
U = TypeVar("U")


class ModelOutput(NamedTuple, Generic[T]):
    """Predictions for N cutouts: torch tensors from the network, float32 NumPy arrays from an engine.

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

    def map(self, function: Callable[[T], U]) -> "ModelOutput[U]":
        """Apply a function to every tensor."""
        return ModelOutput(*map(function, self))

    @staticmethod
    def join(outputs: "Iterable[ModelOutput[U]]", concatenate: Callable[[tuple[U, ...]], U]) -> "ModelOutput[U]":
        """The output for all cutouts of several batches; `concatenate` is `torch.cat` or `numpy.concatenate`."""
        return ModelOutput(*map(concatenate, zip(*outputs, strict=True)))
