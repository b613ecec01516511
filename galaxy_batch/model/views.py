"""Views: the flips and quarter turns of a cutout, which the network sees one at a time, and what they say together."""

import math

import numpy as np
import numpy.typing as npt
import scipy.special

from galaxy_batch.cutouts.resize import Pixels
from galaxy_batch.model.output import ModelOutput, ViewOutput

__all__ = ["combined", "view_numbers", "view_of"]

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


def combined(views: ViewOutput[Array], averaged: int) -> ModelOutput[Array]:
    """The predictions of several views.

    Args:
        views: class logits ``(views, N, classes)`` and squared distances ``(views, N)``.
        averaged: number of views, the first ones, whose mean probability gives the class logits, and whose distances
            give the unfamiliarity; all views give the instability.
    """
    logits, squared = views.class_logits, views.squared_distance[:averaged]
    return ModelOutput(
        class_logits=logits[0] if averaged == 1 else _mean_logits(logits[:averaged]),
        unfamiliarity=np.sqrt(squared.mean(axis=0)),
        instability=_instability(logits) if len(logits) > 1 else np.full(logits.shape[1], np.nan, np.float32),
    )


def _mean_logits(logits: Array) -> Array:
    """Logits of the mean probability over views."""
    summed: Array = scipy.special.logsumexp(scipy.special.log_softmax(logits, axis=-1), axis=0)
    return summed - np.float32(math.log(len(logits)))


def _instability(logits: Array) -> Array:
    """Largest standard deviation over views of a class's probability, ``(N,)``."""
    instability: Array = scipy.special.softmax(logits, axis=-1).std(axis=0).max(axis=-1)
    return instability
