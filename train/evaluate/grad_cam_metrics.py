"""Share of the Grad-CAM maps on the galaxy, for correct and for wrong predictions."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from galaxy_batch.stats import Interval
from train.evaluate.evaluation import bootstrap_interval, median
from train.evaluate.grad_cam import GradCamSample

__all__ = ["GradCamGroup", "GradCamMetrics", "grad_cam_metrics"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GradCamGroup:
    """Medians over a group of predictions; nan for an empty group."""

    galaxies: int
    """Galaxies with a map and a mask."""
    inside: float
    """Median share of the map on the galaxy."""
    area: float
    """Median share of the cutout that the galaxy covers."""
    ratio: float
    """Median of `inside / area`; 1 for a uniform map."""


@dataclass(frozen=True)
class GradCamMetrics:
    """Grad-CAM of correct against wrong predictions; intervals are 95 %, from the bootstrap."""

    looked_at: int
    """Number of maps computed."""
    groups: Mapping[str, tuple[GradCamGroup, GradCamGroup]]
    """Correct and wrong predictions, by predicted class; "all" for all classes together."""
    inside_difference: float
    """Median share on the galaxy, correct minus wrong."""
    inside_interval: Interval
    ratio_difference: float
    """Median of share over area, correct minus wrong: corrected for the galaxy's size."""
    ratio_interval: Interval

    def to_json(self) -> dict[str, Any]:
        """The `attention` entry of metrics.json."""
        groups = {
            name: {"correct": dataclasses.asdict(correct), "wrong": dataclasses.asdict(wrong)}
            for name, (correct, wrong) in self.groups.items()
        }
        return {**dataclasses.asdict(self), "groups": groups}


def grad_cam_metrics(
    sample: GradCamSample, predicted: npt.NDArray[np.int64], correct: npt.NDArray[np.bool_], classes: tuple[str, ...]
) -> GradCamMetrics:
    """Compare Grad-CAM of correct and wrong predictions.

    Args:
        sample: maps of some of the galaxies.
        predicted: ``(N,)``: predicted class of every galaxy.
        correct: ``(N,)``: whether it is correct.
        classes: names of the classes.
    """
    predicted, correct = predicted[sample.rows], correct[sample.rows]
    ratio = sample.inside / sample.area
    members = {"all": np.ones(len(predicted), bool)} | {name: predicted == k for k, name in enumerate(classes)}
    groups = {
        name: (_group(sample, ratio, member & correct), _group(sample, ratio, member & ~correct))
        for name, member in members.items()
    }
    inside = _known(sample.inside[correct]), _known(sample.inside[~correct])
    ratios = _known(ratio[correct]), _known(ratio[~correct])
    return GradCamMetrics(
        looked_at=len(sample.rows),
        groups=groups,
        inside_difference=_median_difference(*inside),
        inside_interval=bootstrap_interval(_median_difference, *inside),
        ratio_difference=_median_difference(*ratios),
        ratio_interval=bootstrap_interval(_median_difference, *ratios),
    )


def _group(sample: GradCamSample, ratio: Array, member: npt.NDArray[np.bool_]) -> GradCamGroup:
    known = member & ~np.isnan(ratio)
    return GradCamGroup(
        int(known.sum()), median(sample.inside[known]), median(sample.area[known]), median(ratio[known])
    )


def _known(values: Array) -> Array:
    return values[~np.isnan(values)]


def _median_difference(first: Array, second: Array) -> float:
    return median(first) - median(second)
