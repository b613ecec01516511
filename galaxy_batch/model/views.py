"""Views: the flips and quarter turns of a cutout, which the network sees one at a time, and what they say together."""

import numpy as np
import numpy.typing as npt
import scipy.special

from galaxy_batch.cutouts.resize import Pixels
from galaxy_batch.model.output import ModelOutput, ViewOutput

__all__ = ["combined", "margin", "view_numbers", "view_of"]

Array = npt.NDArray[np.float32]


def view_numbers(count: int) -> range:
    """The numbers of 1, 2, 4 or 8 views, of the eight symmetries of a square; the first is 0, the identity."""
    return range(0, 8, 8 // count)


def view_of(pixels: Pixels, number: int) -> Pixels:
    """One of the eight symmetries of square images ``(…, h, h)``; 0 is the identity.

    Odd numbers flip left and right; 2, 3, 6, 7 upside down; 4 to 7 turn by a quarter first.
    """
    turned = np.rot90(pixels, 1, (-2, -1)) if number & 4 else pixels
    flipped = np.flip(turned, -2) if number & 2 else turned
    return np.flip(flipped, -1) if number & 1 else flipped


def margin(logits: Array) -> Array:
    """Largest minus second largest of class logits ``(N, classes)``: how sure a view is, ``(N,)``."""
    second, largest = np.partition(logits, -2, axis=-1)[..., -2:].T
    difference: Array = (largest - second).T
    return difference


def combined(views: ViewOutput[Array], averaged: int) -> ModelOutput[Array]:
    """The predictions of several views; nan in the logits of a cutout marks a view that was not computed.

    Args:
        views: of `ViewOutput`, each with the views as first axis: class logits ``(views, N, classes)``. The first view
            of every cutout is computed.
        averaged: number of views, the first ones, whose mean probability gives the class logits, whose distances give
            the unfamiliarity, and whose mean concentrations and embedding are the cutout's; all views give the
            instability.
    """
    logits = views.class_logits
    computed = ~np.isnan(logits[..., 0])
    first = views.map(lambda values: values[:averaged])
    return ModelOutput(
        class_logits=_mean_logits(first.class_logits, computed[:averaged]),
        unfamiliarity=np.sqrt(_mean(first.squared_distance, computed[:averaged])),
        instability=_instability(logits, computed),
        concentrations=_mean(first.concentrations, computed[:averaged]),
        embedding=_mean(first.embedding, computed[:averaged]),
    )


def _mean(values: Array, computed: npt.NDArray[np.bool_]) -> Array:
    """Mean ``(N, …)`` over the computed views of values ``(views, N, …)``."""
    mask = computed.reshape(*computed.shape, *(1,) * (values.ndim - 2))
    mean: Array = values.mean(axis=0, where=mask)
    return mean


def _mean_logits(logits: Array, computed: npt.NDArray[np.bool_]) -> Array:
    """Logits of the mean probability over the computed views; of one view, its logits as they are."""
    counts = computed.sum(axis=0, keepdims=True).T
    log_probabilities = np.where(computed[..., None], scipy.special.log_softmax(logits, axis=-1), -np.inf)
    mean: Array = scipy.special.logsumexp(log_probabilities, axis=0) - np.log(counts).astype(np.float32)
    return np.where(counts == 1, logits[0], mean)


def _instability(logits: Array, computed: npt.NDArray[np.bool_]) -> Array:
    """Largest standard deviation over views of a class's probability, ``(N,)``; nan where one view is computed."""
    mask = np.broadcast_to(computed[..., None], logits.shape)
    instability: Array = scipy.special.softmax(logits, axis=-1).std(axis=0, where=mask).max(axis=-1)
    return np.where(computed.sum(axis=0) > 1, instability, np.float32(np.nan))
