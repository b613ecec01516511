"""The report's section on what the network looked at: pictures, one number, and a verdict."""

import numpy as np

from galaxy_batch.report.html import Album, number, paragraph, range_of, table
from train.evaluate.grad_cam import GradCamSample
from train.evaluate.grad_cam_metrics import GradCamMetrics
from train.evaluate.metrics import HeldOutMetrics
from train.evaluate.results import PartResult, TrainingRun
from train.report.plots import two_histograms
from train.report.sheets import Picture, grad_cam_sheet

__all__ = ["grad_cam_section", "grad_cam_verdict"]

_EXAMPLES = 6  # cutouts of each kind in a sheet
_FEW_WRONG = 10  # below this, wrong predictions are not compared with correct ones


def grad_cam_section(
    run: TrainingRun, held_out: HeldOutMetrics, attention: GradCamSample, seen: GradCamMetrics, album: Album
) -> str:
    """What the network looked at, in pictures and in one number."""
    if not attention.cells:
        return paragraph(f"{run.checkpoint.spec.architecture} has no feature map to draw attention from.")
    test, classes = run.parts["test"], run.labels.classes
    cell = run.checkpoint.spec.size_px / attention.cells
    right = held_out.correct[attention.rows]
    ratio, right_ones = attention.inside / attention.area, seen.groups["all"][0]
    rows = [
        [f"{name}, {kind}", f"{g.galaxies:,}", number(g.inside, 2), number(g.area, 2), number(g.ratio, 2)]
        for name, pair in seen.groups.items()
        for kind, g in zip(("correct", "wrong"), pair, strict=True)
    ]
    top = max(3.0, float(np.nanquantile(ratio, 0.98))) if not np.isnan(ratio).all() else 3.0
    sheets = [
        album.figure(
            f"attention_{name}",
            _attention_figure(test, held_out, attention, classes, place),
            f"Predicted “{name}”: from the least confident at the left to the most confident, evenly spaced; below "
            "each cutout, where the network looked for this class (bright: strongly); the line is the galaxy’s light.",
        )
        for place, name in enumerate(classes)
    ]
    return (
        paragraph(grad_cam_verdict(seen))
        + paragraph(
            "The maps are Grad-CAM (Selvaraju et al. 2017) of the predicted class; their cells are "
            f"{cell:.0f} pixels wide ({attention.cells} × {attention.cells} in a cutout), so they tell the core from "
            "the outskirts, and not one spiral arm from the next.",
            f"Drawn for {seen.looked_at:,} of {len(held_out.correct):,} test galaxies, the wrong predictions first.",
            "The galaxy’s light is what stands out of the sky and hangs together with the centre.",
            f"Where predictions are correct, attention is {right_ones.ratio:.1f} times as dense on the galaxy as if it "
            "were spread evenly over the cutout."
            if right_ones.galaxies
            else "",
            "Predictions average over several orientations of a cutout; the maps are of the upright one."
            if run.checkpoint.spec.views > 1
            else "",
        )
        + album.figure(
            "attention_numbers",
            two_histograms(
                [
                    ("share of the attention on the galaxy’s light", attention.inside[right], attention.inside[~right]),
                    ("that share / the galaxy’s share of the area", ratio[right], ratio[~right]),
                ],
                [(0, 1), (0, top)],
                [None, 1.0],
            ),
            "Left: how much of the attention falls on the galaxy itself. Right: the same over the area that the galaxy "
            "covers; attention spread evenly over the cutout would give 1 (dotted).",
        )
        + table(
            ["predictions", "galaxies", "median share on the light", "median area of the light", "median share / area"],
            rows,
            "Compare wrong with correct ones of the same class: classes differ in size.",
        )
        + "".join(sheets)
    )


def grad_cam_verdict(seen: GradCamMetrics) -> str:
    """One plain statement, from the figures, on whether wrong predictions look elsewhere."""
    correct, wrong = seen.groups["all"]
    if not correct.galaxies or wrong.galaxies < _FEW_WRONG:
        return (
            f"With {wrong.galaxies} wrong and {correct.galaxies} correct predictions to look at, whether wrong "
            "predictions look elsewhere cannot be said."
        )
    figures = (
        f"the median share of attention on the galaxy’s own light is {correct.inside:.2f} for correct and "
        f"{wrong.inside:.2f} for wrong predictions (difference {number(seen.inside_difference)}, 95% interval "
        f"{range_of(seen.inside_interval)})"
    )
    sized = (
        f"the ratio of that share to the galaxy’s area is {correct.ratio:.2f} against {wrong.ratio:.2f} (difference "
        f"{number(seen.ratio_difference, 2)}, {range_of(seen.ratio_interval, 2)})"
    )
    by_share, by_ratio = _sign(seen.inside_interval), _sign(seen.ratio_interval)
    if by_share == by_ratio == 0:
        return f"Wrong predictions do not demonstrably look elsewhere: {figures}, and {sized}."
    if by_share == by_ratio:
        where = "less" if by_share > 0 else "more"
        return f"Wrong predictions do look elsewhere, {where} at the galaxy: {figures}, and {sized}."
    if by_share == 0:
        where = "less" if by_ratio > 0 else "more"
        return (
            f"Wrong predictions are {where} concentrated on the galaxy for its size, though not in total: {figures}, "
            f"but {sized}."
        )
    where = "less" if by_share > 0 else "more"
    why = "smaller" if wrong.area < correct.area else "larger"
    return (
        f"Wrong predictions look {where} at the galaxy, and size explains it: {figures}, but their galaxies are {why} "
        f"(median area {wrong.area:.2f} against {correct.area:.2f}), and {sized}."
    )


def _attention_figure(
    test: PartResult, held_out: HeldOutMetrics, attention: GradCamSample, classes: tuple[str, ...], said: int
) -> bytes:
    groups = []
    for correct in (True, False):
        chosen = np.flatnonzero(
            (held_out.predicted[attention.rows] == said) & (held_out.correct[attention.rows] == correct)
        )
        chosen = chosen[np.argsort(held_out.confidence[attention.rows[chosen]], kind="stable")]
        if len(chosen) > _EXAMPLES:
            chosen = chosen[np.linspace(0, len(chosen) - 1, _EXAMPLES).round().astype(int)]
        groups.append([_attended(test, held_out, attention, classes, int(place)) for place in chosen])
    return grad_cam_sheet(groups[0], groups[1], columns=_EXAMPLES)


def _attended(
    test: PartResult, held_out: HeldOutMetrics, attention: GradCamSample, classes: tuple[str, ...], place: int
) -> Picture:
    row = attention.rows[place]
    return Picture(
        test.pixels[row],
        (
            f"{classes[test.labels[row]]}, said {classes[held_out.predicted[row]]} {held_out.confidence[row]:.2f}",
            f"on the galaxy {number(float(attention.inside[place]), 2)}",
        ),
        attention.maps[place],
        attention.masks[place],
    )


def _sign(interval: tuple[float, float]) -> int:
    """1 or -1 where the interval excludes 0, else 0."""
    return int(interval[0] > 0) - int(interval[1] < 0)
