"""The result of a benchmark as a Markdown table and as a chart."""

import io
from typing import Any

from matplotlib.figure import Figure

__all__ = ["rates_chart", "rates_table"]

_MB = 1e6


def rates_table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    lines = ["| stage alone | cutouts per second | per core |", "|---|---:|---:|"]
    lines += [f"| {n} | {rate:,.0f} | {rate / result['cores']:,.0f} |" for n, rate in result["ceilings_per_s"].items()]
    lines += [
        "",
        "| whole job | rows | seconds | per second | steady, per second | share of the slowest stage's rate |",
    ]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    for number, run in enumerate(result["whole_job"]):
        steady, share = run["steady_rate_per_s"], run["share_of_lowest_ceiling"]
        lines.append(
            f"| {'warm' if number else 'cold'} | {run['rows']:,} | {run['seconds']:,.1f} | {run['rate_per_s']:,.0f} "
            f"| {'-' if steady is None else f'{steady:,.0f}'} | {'-' if share is None else f'{share:.0%}'} |"
        )
    lines += _steady_table(result)
    agreed = result["against_torch_fp32"]
    lines += ["", f"Against torch in fp32, on {agreed['cutouts']} cutouts: same class {agreed['same_class']:.2%}, "]
    lines[-1] += f"probabilities differ by {agreed['difference_p99']:.2g} or less for 99 %."
    last = result["whole_job"][-1]
    lines += ["", "Time of each step of the last run: " + _listed(last["step_seconds"], "{:,.1f} s")]
    lines += ["", "Peak memory of one process: " + _listed(_megabytes(last["peak_bytes"]), "{:,.0f} MB")]
    lines += [f"Peak of objects spilled to disk: {last['peak_spilled_bytes'] / _MB:,.0f} MB"]
    if result["busy"]:
        lines += [
            "",
            f"**The machine was busy** (load {result['load_per_core_before']} per core): all rates are too low.",
        ]
    return "\n".join(lines) + "\n"


def _steady_table(result: dict[str, Any]) -> list[str]:
    """What each run used in steady state, and what 100 million cutouts take at that rate."""
    lines = [
        "",
        "| in steady state | share of the model alone | GPU busy | cores used | hours per 100 million | cost |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for run in result["whole_job"]:
        shares = [_shown(run[name], "{:.0%}") for name in ("share_of_model", "gpu_busy_share")]
        cores = _shown(run["cores_used"], f"{{:.1f}} of {result['cores']}")
        left = [_shown(run[f"{name}_per_100_million"], "{:,.1f}") for name in ("hours", "cost")]
        lines.append("| " + " | ".join([run["precision"], *shares, cores, *left]) + " |")
    tests = result["engine_tests"]
    if tests is not None:
        counts = f"{tests['passed']} passed, {tests['failed']} failed, {tests['skipped']} skipped"
        lines += ["", f"Tests of the GPU engine against the CPU ({result['gpu'] or 'no GPU'}): {counts}"]
    return lines


def _shown(value: float | None, template: str) -> str:
    return "-" if value is None else template.format(value)


def rates_chart(result: dict[str, Any]) -> bytes:
    """Rates of the stages and of the whole jobs as bars on one scale: a PNG."""
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
    axis.bar_label(axis.barh(names, rates, color=colours), [f" {rate:,.0f}" for rate in rates], fontsize=8)
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.set_xlabel("cutouts per second")
    axis.spines[["top", "right"]].set_visible(False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return content.getvalue()


def _listed(values: dict[str, float], template: str) -> str:
    return ", ".join(f"{name} {template.format(value)}" for name, value in values.items())


def _megabytes(sizes: dict[str, int]) -> dict[str, float]:
    return {name: size / _MB for name, size in sorted(sizes.items(), key=lambda entry: -entry[1])}
