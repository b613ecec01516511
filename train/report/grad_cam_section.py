"""Values of the report's section on Grad-CAM: maps, share on the galaxy, verdict."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from galaxy_batch.model.grad_cam import fine_grad_cam
from galaxy_batch.report.page import Tile, count, interval, number
from galaxy_batch.report.pictures import cutout_picture, grad_cam_picture
from train.evaluate.grad_cam import GradCamSample, share_on_mask
from train.evaluate.grad_cam_metrics import GradCamMetrics
from train.evaluate.metrics import HeldOutMetrics
from train.evaluate.results import TrainingRun
from train.report.figures import ReportFigures, outcome_histograms

__all__ = ["grad_cam_values", "grad_cam_verdict"]

_MAX_EXAMPLES = 3  # per class and outcome
_MIN_WRONG = 10  # wrong predictions needed for a comparison


def grad_cam_values(
    run: TrainingRun, held_out: HeldOutMetrics, sample: GradCamSample, metrics: GradCamMetrics, figures: ReportFigures
) -> dict[str, Any]:
    """Verdict, medians, histograms and example tiles; `grad_cam` is None for a network without a feature map."""
    if not sample.cells:
        return {"grad_cam": None}
    right = held_out.correct[sample.rows]
    ratio = sample.inside / sample.area
    top = max(3.0, float(np.nanquantile(ratio, 0.98))) if not np.isnan(ratio).all() else 3.0
    correct = metrics.groups["all"][0]
    quantities = [
        ("share of the map on the galaxy", sample.inside[right], sample.inside[~right]),
        ("share / area of the galaxy", ratio[right], ratio[~right]),
    ]
    return {
        "grad_cam": sample,
        "cell_px": run.checkpoint.spec.size_px / sample.cells,
        "grad_cam_verdict": grad_cam_verdict(metrics),
        "concentration": correct.ratio if correct.galaxies else None,
        "grad_cam_rows": [
            [f"{name}, {outcome}", count(g.galaxies), number(g.inside, 2), number(g.area, 2), number(g.ratio, 2)]
            for name, pair in metrics.groups.items()
            for outcome, g in zip(("correct", "wrong"), pair, strict=True)
        ],
        "grad_cam_histograms": figures.embed(
            "attention_numbers",
            lambda width_px: outcome_histograms(width_px, quantities, [(0, 1), (0, top)], [None, 1.0]),
            "Histograms of the share of the Grad-CAM map on the galaxy, and of that share over the galaxy's area, for "
            "correct and wrong predictions.",
        ),
        "grad_cam_tiles": {
            name: {
                outcome: _example_tiles(run, held_out, sample, number_of_class, outcome == "correct")
                for outcome in ("correct", "wrong")
            }
            for number_of_class, name in enumerate(run.labels.classes)
        },
    }


def grad_cam_verdict(metrics: GradCamMetrics) -> str:
    """Whether the maps of wrong predictions lie elsewhere than those of correct ones, in a sentence."""
    correct, wrong = metrics.groups["all"]
    if not correct.galaxies or wrong.galaxies < _MIN_WRONG:
        return f"Too few predictions to compare: {wrong.galaxies} wrong, {correct.galaxies} correct."
    shares = (
        f"the median share of the map on the galaxy is {correct.inside:.2f} for correct and {wrong.inside:.2f} for "
        f"wrong predictions (difference {number(metrics.inside_difference)}, 95% interval "
        f"{interval(metrics.inside_interval)})"
    )
    ratios = (
        f"the ratio of that share to the galaxy's area is {correct.ratio:.2f} and {wrong.ratio:.2f} (difference "
        f"{number(metrics.ratio_difference, 2)}, {interval(metrics.ratio_interval, 2)})"
    )
    by_share, by_ratio = _sign(metrics.inside_interval), _sign(metrics.ratio_interval)
    if by_share == by_ratio == 0:
        return f"No significant difference between correct and wrong predictions: {shares}, and {ratios}."
    less = "less" if (by_share or by_ratio) > 0 else "more"
    if by_share == by_ratio:
        return f"Maps of wrong predictions lie {less} on the galaxy: {shares}, and {ratios}."
    if by_share == 0:
        return (
            f"The maps of wrong predictions are {less} concentrated on the galaxy for its size: {shares}, but {ratios}."
        )
    size = "smaller" if wrong.area < correct.area else "larger"
    return (
        f"Maps of wrong predictions lie {less} on the galaxy, which its size explains: {shares}, but their galaxies "
        f"are {size} (median area {wrong.area:.2f} against {correct.area:.2f}), and {ratios}."
    )


def _example_tiles(
    run: TrainingRun, held_out: HeldOutMetrics, sample: GradCamSample, predicted: int, correct: bool
) -> list[Tile]:
    """Cutout and map of some galaxies with this predicted class and outcome, evenly spaced by confidence."""
    test, classes = run.parts["test"], run.labels.classes
    chosen = np.flatnonzero((held_out.predicted[sample.rows] == predicted) & (held_out.correct[sample.rows] == correct))
    chosen = chosen[np.argsort(held_out.confidence[sample.rows[chosen]], kind="stable")]
    if len(chosen) > _MAX_EXAMPLES:
        chosen = chosen[np.linspace(0, len(chosen) - 1, _MAX_EXAMPLES).round().astype(int)]
    rows = sample.rows[chosen]
    small = fine_grad_cam(run.model, test.pixels[torch.from_numpy(rows)], held_out.predicted[rows])
    if small is None:
        return []
    fine = F.interpolate(small[:, None], test.pixels.shape[-2:], mode="bilinear")[:, 0]
    tiles = []
    for place, row, of_galaxy, share in zip(chosen, rows, fine, share_on_mask(fine, sample.masks[chosen]), strict=True):
        label = f"{classes[test.labels[row]]}, predicted {classes[predicted]} {held_out.confidence[row]:.2f}"
        on_galaxy = f"on the galaxy: {number(float(sample.inside[place]), 2)}, fine map {number(float(share), 2)}"
        cutout = cutout_picture(test.pixels[row].numpy(), f"cutout: {label}")
        # the square root shows weak parts too
        over = of_galaxy.sqrt().numpy(), f"fine Grad-CAM: {on_galaxy}", sample.masks[place].numpy()
        tiles.append(
            Tile((cutout, grad_cam_picture(test.pixels[row].numpy(), *over)), (label, on_galaxy), test.ids[row])
        )
    return tiles


def _sign(limits: tuple[float, float]) -> int:
    """1 or -1 where the interval excludes 0, else 0."""
    return int(limits[0] > 0) - int(limits[1] < 0)
