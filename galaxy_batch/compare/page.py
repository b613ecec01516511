"""A comparison of two catalogs as one HTML page, and as `comparison.json`."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.compare.class_mix import Mix
from galaxy_batch.compare.config import CompareConfig
from galaxy_batch.compare.figures import distributions, mix_by_bins, old_against_new, sky_map
from galaxy_batch.compare.gates import Gate
from galaxy_batch.compare.questions import QuestionChange
from galaxy_batch.compare.result import Comparison, Flip, Rates, plain
from galaxy_batch.decision_tree import MOSTLY_ASKED
from galaxy_batch.errors import without_secrets
from galaxy_batch.links import cutout_links, galaxy_links
from galaxy_batch.report.cutouts import Cutout, fetch_examples
from galaxy_batch.report.figures import embed
from galaxy_batch.report.page import Tile, interval, number, percent, points, render
from galaxy_batch.report.sky_map import region_for
from galaxy_batch.stats import share
from galaxy_batch.storage.files import join, write_atomically

__all__ = ["write_comparison"]

_NO_CLASS = "no class"
_SKY_ROWS = 8  # cells in the table of the sky
_MAX_CUTOUTS = 100


def write_comparison(result: Comparison, config: CompareConfig) -> tuple[str, str]:
    """Write `comparison.json` and `index.html`; their URIs."""
    output_uri = config.output_uri
    content = {**plain(result), "gates_crossed": [gate.name for gate in result.crossed]}
    json_uri, page_uri = join(output_uri, "comparison.json"), join(output_uri, "index.html")
    write_atomically(json_uri, (json.dumps(content, allow_nan=False) + "\n").encode())
    write_atomically(page_uri, _page(result, config).encode())
    return without_secrets(json_uri), without_secrets(page_uri)


def _page(result: Comparison, config: CompareConfig) -> str:
    shown = _shown_classes(result.classes)
    drawings: dict[str, Any] = {"distributions": None, "old_against_new": None}
    if result.old.with_class and result.new.with_class:
        label = "Old and new distributions of the confidence"
        drawings["distributions"] = embed(lambda width_px: distributions(width_px, result.shifts), label)
    if result.compared:
        label = "New against old confidence of matched objects"
        drawings["old_against_new"] = embed(lambda width_px: old_against_new(width_px, result.shifts), label)
    return render(
        "galaxy_batch.compare",
        "comparison.html",
        title="Comparison of two catalogs",
        about=[(name, f"{of.release}, {of.model_id}") for name, of in (("old", result.old), ("new", result.new))],
        result=result,
        headline=_headline(result),
        gates=[_gate(gate) for gate in sorted(result.gates, key=lambda gate: (not gate.crossed, gate.off))],
        **_matching(result),
        **_transitions(result),
        examples=_examples(result.flips, config),
        shifts=[
            [name, *map(number, (s.old_mean, s.new_mean, s.psi, s.psi_by_chance, s.ks, s.ks_by_chance, s.mean_change))]
            for name, s in result.shifts.items()
        ],
        **drawings,
        mix=_mix_table(result.mix, result.classes),
        bin_mixes=[_bin_mix(mix, result.classes, shown) for mix in result.bin_mixes],
        sky=_sky(result, shown) if result.sky.groups else None,
        mostly_asked=MOSTLY_ASKED,
        questions=[_question(question) for question in result.questions],
        rates=[_rates(rates) for rates in (result.failed, result.flagged, *result.flags)],
    )


def _headline(result: Comparison) -> list[tuple[str, str, str]]:
    psi = max(result.shifts, key=lambda name: result.shifts[name].psi)
    ks = max(result.shifts, key=lambda name: result.shifts[name].ks)
    changed = "no matched object has a class in both"
    if result.compared:
        limits = interval(result.flip_interval, as_percent=True)
        changed = f"{result.flipped:,} of {result.compared:,} objects; 95% interval {limits}"
    return [
        ("Class changed", percent(result.flip_rate), changed),
        ("Matched", f"{result.matching.matched:,}", f"of {result.old.rows:,} old and {result.new.rows:,} new"),
        ("Largest PSI", number(result.shifts[psi].psi), f"{psi}; below 0.1 is small, above 0.25 large"),
        ("Largest KS distance", number(result.shifts[ks].ks), f"{ks}; from 0 to 1"),
        ("Without a class", points(result.failed.increase), _from_to(result.failed)),
        ("Flagged for review", points(result.flagged.increase), _from_to(result.flagged)),
    ]


def _from_to(rates: Rates) -> str:
    return f"{percent(rates.old_rate)} of the old rows, {percent(rates.new_rate)} of the new; change in points"


def _gate(gate: Gate) -> list[str]:
    outcome = "CROSSED" if gate.crossed else "–" if gate.off or gate.value is None else "passed"
    return [gate.name, number(gate.value, 4), "off" if gate.off else f"{gate.limit:g}", gate.where, outcome]


def _matching(result: Comparison) -> dict[str, Any]:
    matching, old, new = result.matching, result.old, result.new
    counts = [("only old", matching.only_old, old.rows), ("only new", matching.only_new, new.rows)]
    if matching.by == "position":
        counts += [
            ("old, ambiguous", matching.ambiguous, old.rows),
            ("old, without a position", matching.nowhere_old, old.rows),
            ("new, without a position", matching.nowhere_new, new.rows),
        ]
    return {
        "matching": matching,
        "objects": [
            ["in both", f"{matching.matched:,}", ""],
            *([name, f"{rows:,}", percent(share(rows, of))] for name, rows, of in counts),
        ],
        "catalogs": [
            ["catalog", without_secrets(old.uri), without_secrets(new.uri)],
            ["release", old.release, new.release],
            ["checkpoint", old.model_id, new.model_id],
            ["rows", f"{old.rows:,}", f"{new.rows:,}"],
            ["with a class", f"{old.with_class:,}", f"{new.with_class:,}"],
        ],
    }


def _transitions(result: Comparison) -> dict[str, Any]:
    names = [*result.classes, _NO_CLASS]
    return {
        "transitions_header": ["", *(f"new {name}" for name in names), "all"],
        "transitions": [
            [f"old {name}", *(f"{n:,} ({percent(n / sum(row))})" if n else "0" for n in row), f"{sum(row):,}"]
            for name, row in zip(names, result.transitions.tolist(), strict=True)
        ],
    }


def _examples(flips: Sequence[Flip], config: CompareConfig) -> list[Tile]:
    """Objects whose class changed: one cutout if both catalogs have the same, else the old and the new one."""
    if not flips:
        return []
    old, new = require_manifest(config.old_uri, "old_uri"), require_manifest(config.new_uri, "new_uri")
    old_cutouts = fetch_examples([flip.old_id for flip in flips[:_MAX_CUTOUTS]], old)
    new_cutouts = fetch_examples([flip.new_id for flip in flips[:_MAX_CUTOUTS]], new)
    rest = Cutout(reason=f"only the first {_MAX_CUTOUTS} are shown")
    return [
        _example(flip, old_cutouts.get(flip.old_id, rest), new_cutouts.get(flip.new_id, rest), config) for flip in flips
    ]


def _example(flip: Flip, old: Cutout, new: Cutout, config: CompareConfig) -> Tile:
    object_id = flip.new_id if flip.old_id == flip.new_id else f"{flip.old_id} → {flip.new_id}"
    change = f"{flip.old_class} {flip.old_confidence:.2f} → {flip.new_class} {flip.new_confidence:.2f}"
    position = () if flip.ra is None else (f"RA {number(flip.ra, 5)}, Dec {number(flip.dec, 5)}",)
    cutouts = {"": new} if (old.content, old.reason) == (new.content, new.reason) else {"old ": old, "new ": new}
    links = {
        which + name: address
        for which, cutout in cutouts.items()
        for name, address in cutout_links(cutout.uris, config.output_uri).items()
    }
    return Tile(
        tuple(cutout.picture(f"{which}cutout of {object_id}".capitalize()) for which, cutout in cutouts.items()),
        (change, *position),
        object_id,
        {**links, **galaxy_links(config.links, flip.new_id, flip.ra, flip.dec)},
    )


def _bin_mix(mix: Mix, classes: Sequence[str], shown: Sequence[int]) -> dict[str, Any]:
    drawing = embed(
        lambda width_px: mix_by_bins(width_px, mix, {classes[label]: label for label in shown}),
        f"Change of the class shares by {mix.of}",
    )
    return {
        "of": mix.of,
        "left_out": mix.left_out,
        "drawing": drawing if mix.groups else None,
        "table": _mix_table(mix, classes),
    }


def _sky(result: Comparison, shown: Sequence[int]) -> dict[str, Any]:
    """The class whose share changed most in any cell: its map, and the cells with the most significant changes."""
    mix = result.sky
    label = max(shown, key=lambda label: float(np.abs(mix.difference[:, label]).max()))
    name, significance = result.classes[label], np.abs(mix.difference[:, label]) / mix.error[:, label]
    rows = np.zeros(12 << 2 * (mix.order or 0), np.int64)
    rows[[int(cell) for cell in mix.groups]] = mix.old_rows
    region = region_for(rows)
    return {
        "cells": len(mix.groups),
        "of_class": name,
        "scatter": float(((mix.difference - result.mix.difference) / mix.error)[:, label].std()),
        "projection": region.projection,
        "drawing": embed(
            lambda width_px: sky_map(width_px, mix, region, label, name), f"Map of the change of {name}", "sky"
        ),
        "table": _mix_table(mix, result.classes, np.argsort(-significance)[:_SKY_ROWS].tolist()),
    }


def _mix_table(mix: Mix, classes: Sequence[str], groups: Iterable[int] | None = None) -> tuple[list[str], list[Any]]:
    """Header and rows of a table of class shares by group."""
    shown = _shown_classes(classes)
    header = ["" if mix.of == "all" else "cell" if mix.order is not None else mix.of, "old rows", "new rows"]
    for label in shown:
        header += [f"{classes[label]}, old", "new", "change ± s.e. (points)"]
    rows = []
    for group in range(len(mix.groups)) if groups is None else groups:
        row = [mix.groups[group], f"{mix.old_rows[group]:,}", f"{mix.new_rows[group]:,}"]
        for label in shown:
            old, new, difference, error = (
                float(values[group, label]) for values in (mix.old_share, mix.new_share, mix.difference, mix.error)
            )
            row += [percent(old), percent(new), f"{points(difference)} ± {number(100 * error, 1)}"]
        rows.append(row)
    return header, rows


def _question(question: QuestionChange) -> dict[str, Any]:
    changes = {"asked at all": question.asked, **question.answers}
    return {
        "title": question.name.replace("_", " "),
        "question": question,
        "rows": [
            [
                name.replace("_", " "),
                percent(change.old_mean),
                percent(change.new_mean),
                points(change.mean_change),
                points(change.rms_change).removeprefix("+"),
            ]
            for name, change in changes.items()
        ],
    }


def _rates(rates: Rates) -> list[str]:
    old, new = (f"{rates.old:,}", percent(rates.old_rate)), (f"{rates.new:,}", percent(rates.new_rate))
    return [rates.name, *old, *new, points(rates.increase)]


def _shown_classes(classes: Sequence[str]) -> list[int]:
    """Labels of the classes whose shares are shown: of two only the second, since the first changes by the opposite."""
    return list(range(1 if len(classes) == 2 else 0, len(classes)))
