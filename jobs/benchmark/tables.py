"""What a benchmark is shown as: a table and a chart; and timm's own loop, which it is compared with."""

import io
import time
from collections.abc import Sequence
from typing import Any

import torch
import torch.utils.data
from matplotlib.figure import Figure
from PIL import Image
from timm.data.loader import create_loader

from galaxy_batch.model.network import ModelSpec, build_model

__all__ = ["plain_loop_rate", "rates_chart", "rates_table"]

_MB = 1e6


class _Files(torch.utils.data.Dataset[tuple[Any, int]]):
    def __init__(self, files: Sequence[str]) -> None:
        self.files, self.transform = files, None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        try:
            with Image.open(self.files[index]) as image:
                pixels = image.convert("RGB")
        except OSError:
            pixels = Image.new("RGB", (424, 424))  # a loop without a plan for bad files would end here
        return (self.transform(pixels) if self.transform else pixels), 0


def plain_loop_rate(files: Sequence[str], spec: ModelSpec, workers: int, gpu: bool) -> float:
    """Cutouts per second of timm's loader and a torch loop in fp32, the way its inference script does it."""
    device = torch.device("cuda" if gpu else "cpu")
    started = time.perf_counter()
    model = build_model(spec, "random").backbone.to(device)
    loader = create_loader(
        _Files(files),  # type: ignore[arg-type]
        (3, spec.size_px, spec.size_px), 64, use_prefetcher=gpu, num_workers=workers,
        crop_pct=spec.crop_fraction, mean=spec.mean, std=spec.std, device=device,
    )  # fmt: skip
    with torch.inference_mode():
        for pixels, _ in loader:
            model(pixels.to(device)).softmax(-1).cpu()
    return len(files) / (time.perf_counter() - started)


def rates_table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    lines = ["| step alone | cutouts per second | per core |", "|---|---:|---:|"]
    lines += [f"| {n} | {rate:,.0f} | {rate / result['cores']:,.0f} |" for n, rate in result["ceilings_per_s"].items()]
    lines += ["", "| whole job | rows | seconds | per second | steady, per second | share of the lowest ceiling |"]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    for number, run in enumerate(result["whole_job"]):
        steady, share = run["steady_rate_per_s"], run["share_of_lowest_ceiling"]
        lines.append(
            f"| {'warm' if number else 'cold'} | {run['rows']:,} | {run['seconds']:,.1f} | {run['rate_per_s']:,.0f} "
            f"| {'-' if steady is None else f'{steady:,.0f}'} | {'-' if share is None else f'{share:.0%}'} |"
        )
    seen = result["against_torch_fp32"]
    lines += ["", f"Against torch in fp32, on {seen['cutouts']} cutouts: same class {seen['same_class']:.2%}, "]
    lines[-1] += f"probabilities differ by {seen['difference_p99']:.2g} or less for 99 %."
    last = result["whole_job"][-1]
    lines += ["", "Where the time of the last run went: " + _listed(last["step_seconds"], "{:,.1f} s")]
    lines += ["", "Peak memory of one process: " + _listed(_megabytes(last["peak_bytes"]), "{:,.0f} MB")]
    lines += [f"Spilled to disk at most: {last['peak_spilled_bytes'] / _MB:,.0f} MB"]
    if result["busy"]:
        lines += ["", f"**The machine was busy** (load {result['load_per_core_before']} per core): too low, all of it."]
    return "\n".join(lines) + "\n"


def rates_chart(result: dict[str, Any]) -> bytes:
    """Ceilings and whole jobs as bars on one scale: a PNG."""
    bars = {**result["ceilings_per_s"]}
    for number, run in enumerate(result["whole_job"]):
        name = "cold" if number == 0 else "warm"
        if run["steady_rate_per_s"] is not None:
            bars[f"pipeline, steady ({name})"] = run["steady_rate_per_s"]
        bars[f"whole job ({name})"] = run["rate_per_s"]
    figure = Figure(figsize=(8, 0.34 * len(bars) + 0.8), layout="constrained")
    axis = figure.subplots()
    names, rates = list(bars), list(bars.values())
    colours = ["#767676" if name in result["ceilings_per_s"] else "#0072B2" for name in names]
    drawn = axis.barh(names, rates, color=colours)
    axis.bar_label(drawn, [f" {rate:,.0f}" for rate in rates], fontsize=8)
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.set_xlabel("cutouts per second")
    axis.spines[["top", "right"]].set_visible(False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return content.getvalue()


def _listed(values: dict[str, float], form: str) -> str:
    return ", ".join(f"{name} {form.format(value)}" for name, value in values.items())


def _megabytes(sizes: dict[str, int]) -> dict[str, float]:
    return {name: size / _MB for name, size in sorted(sizes.items(), key=lambda entry: -entry[1])}
