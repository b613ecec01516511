"""A comparison of two catalogs as one HTML page for people, and as `comparison.json` for machines."""

import json
import math
from collections.abc import Sequence

from galaxy_batch.compare.figures import distributions, old_against_new
from galaxy_batch.compare.gates import Gate
from galaxy_batch.compare.page_mix import mix_section, points
from galaxy_batch.compare.result import Comparison, Rates, plain
from galaxy_batch.errors import without_secrets
from galaxy_batch.report.html import (
    Album,
    cards,
    note,
    number,
    page,
    paragraph,
    percent,
    range_of,
    section,
    side_by_side,
    table,
)
from galaxy_batch.storage.files import join, write_atomically

__all__ = ["write_comparison"]

_NO_CLASS = "no class"


def write_comparison(found: Comparison, output_uri: str) -> tuple[str, str]:
    """Write `comparison.json` and `index.html`, and give their URIs."""
    content = {**plain(found), "gates_crossed": [gate.name for gate in found.crossed]}
    json_uri, page_uri = join(output_uri, "comparison.json"), join(output_uri, "index.html")
    write_atomically(json_uri, (json.dumps(content, allow_nan=False) + "\n").encode())
    write_atomically(page_uri, _page(found).encode())
    return without_secrets(json_uri), without_secrets(page_uri)


def _page(found: Comparison) -> str:
    album = Album()
    sections = {
        "Gates": _gates(found.gates),
        "Which objects": _objects(found),
        "Classes that changed": _flips(found),
        "Confidence and probabilities": _shifts(found, album),
        "Class mix": mix_section(found, album),
        "Failures and flags": _rates(found),
    }
    about = [
        ("old", f"{found.old.release}, {found.old.model_id}"),
        ("new", f"{found.new.release}, {found.new.model_id}"),
    ]
    return page("Two catalogs compared", about, _headline(found), sections)


def _headline(found: Comparison) -> str:
    psi = max(found.shifts, key=lambda name: found.shifts[name].psi)
    ks = max(found.shifts, key=lambda name: found.shifts[name].ks)
    items = [
        (
            "Class changed",
            percent(found.flip_rate),
            f"{found.flipped:,} of {found.compared:,} objects; 95% interval "
            f"{range_of(found.flip_interval, as_percent=True)}"
            if found.compared
            else "no object has a class in both",
        ),
        ("In both catalogs", f"{found.matching.matched:,}", f"of {found.old.rows:,} old and {found.new.rows:,} new"),
        ("Largest PSI", number(found.shifts[psi].psi), f"{psi}; under 0.1 is little, over 0.25 is much"),
        ("Largest KS distance", number(found.shifts[ks].ks), f"{ks}; from 0 to 1"),
        ("Without a class", points(found.failed.increase), _from_to(found.failed)),
        ("Flagged for review", points(found.flagged.increase), _from_to(found.flagged)),
    ]
    names = [gate.name for gate in found.crossed]
    crossed = note(f"Crossed: {', '.join(names)}.") if names else paragraph("No gate is crossed.")
    return cards(items) + crossed


def _gates(gates: Sequence[Gate]) -> str:
    rows = [
        [gate.name, _value(gate), "off" if gate.off else f"{gate.limit:g}", gate.where, _outcome(gate)]
        for gate in sorted(gates, key=lambda gate: (not gate.crossed, gate.off))
    ]
    return table(
        ["gate", "value", "limit", "of", "outcome"],
        rows,
        "Limits come from the config. What cannot be known crosses its gate, unless that is switched off with inf.",
    )


def _value(gate: Gate) -> str:
    return "–" if gate.value is None else number(gate.value, 4)


def _outcome(gate: Gate) -> str:
    if gate.crossed:
        return "CROSSED"
    return "–" if gate.off or gate.value is None else "passed"


def _objects(found: Comparison) -> str:
    matching = found.matching
    how = (
        "Two rows are the same object when their ids are the same."
        if matching.by == "object_id"
        else f"Two rows are the same object when each is the other’s nearest, within {matching.radius_arcsec:g} arcsec."
    )
    counted = [
        ("only in the old", matching.only_old, found.old.rows),
        ("only in the new", matching.only_new, found.new.rows),
    ]
    if matching.by == "position":
        counted += [
            ("old, with a choice or rivals", matching.ambiguous, found.old.rows),
            ("old, without a position", matching.nowhere_old, found.old.rows),
            ("new, without a position", matching.nowhere_new, found.new.rows),
        ]
    rows = [[name, f"{count:,}", percent(_share(count, rows))] for name, count, rows in counted]
    rows.insert(0, ["in both", f"{matching.matched:,}", ""])
    separation = matching.median_separation_arcsec
    sides = [
        ["catalog", without_secrets(found.old.uri), without_secrets(found.new.uri)],
        ["release", found.old.release, found.new.release],
        ["checkpoint", found.old.model_id, found.new.model_id],
        ["rows", f"{found.old.rows:,}", f"{found.new.rows:,}"],
        ["with a class", f"{found.old.with_class:,}", f"{found.new.with_class:,}"],
    ]
    return (
        paragraph(how, "" if separation is None else f"The median separation is {separation:.3g} arcsec.")
        + side_by_side(table(["", "objects", "share"], rows))
        + table(["", "old", "new"], sides, text=True)
    )


def _flips(found: Comparison) -> str:
    names = [*found.classes, _NO_CLASS]
    rows = [
        [f"old {name}", *(_cell(count, line) for count in line), f"{sum(line):,}"]
        for name, line in zip(names, found.transitions.tolist(), strict=True)
    ]
    examples = [
        [
            flip.old_id if flip.old_id == flip.new_id else f"{flip.old_id} → {flip.new_id}",
            "–" if flip.ra is None else f"{flip.ra:.5f}",
            "–" if flip.dec is None else f"{flip.dec:+.5f}".replace("-", "−"),
            flip.old_class,
            number(flip.old_confidence),
            flip.new_class,
            number(flip.new_confidence),
        ]
        for flip in found.flips
    ]
    header = ["object", "RA (deg)", "Dec (deg)", "old", "confidence", "new", "confidence"]
    return (
        table(
            ["", *(f"new {name}" for name in names), "all"],
            rows,
            "Objects in both catalogs, and their share of the row. The flip rate leaves out those without a class.",
        )
        + section(
            "Examples",
            table(header, examples, "The flips with the most confidence on both sides come first.")
            if examples
            else paragraph("None." if not found.flipped else "None were asked for."),
        )
    )  # fmt: skip


def _shifts(found: Comparison, album: Album) -> str:
    rows = [
        [
            name,
            number(shift.old_mean),
            number(shift.new_mean),
            number(shift.psi),
            number(shift.psi_by_chance),
            number(shift.ks),
            number(shift.ks_by_chance),
            number(shift.mean_change),
        ]
        for name, shift in found.shifts.items()
    ]
    header = ["", "old mean", "new mean", "PSI", "by chance", "KS", "by chance", "mean |change|"]
    drawn = (
        album.figure(
            "distributions",
            distributions(found.shifts),
            "All rows with a class of each catalog, in forty bins; old is the full line, new the broken one.",
        )
        if found.old.with_class and found.new.with_class
        else ""
    )
    if found.compared:
        drawn += album.figure(
            "old_against_new",
            old_against_new(found.shifts),
            "Objects with a class in both catalogs; off the diagonal they changed.",
        )
    return (
        table(
            header,
            rows,
            "PSI and KS compare all rows of each catalog. By chance: what two samples of one distribution show, on "
            "average (PSI) or in one of twenty cases (KS). The last column is of the objects in both.",
        )
        + drawn
    )


def _rates(found: Comparison) -> str:
    rows = [
        [
            rates.name,
            f"{rates.old:,}",
            percent(rates.old_rate),
            f"{rates.new:,}",
            percent(rates.new_rate),
            points(rates.increase),
        ]
        for rates in (found.failed, found.flagged, *found.flags)
    ]
    return table(
        ["", "old rows", "share", "new rows", "share", "change (points)"], rows, "Shares of all rows of each catalog."
    )


def _cell(count: int, line: Sequence[int]) -> str:
    return f"{count:,} ({percent(_share(count, sum(line)))})" if count else "0"


def _from_to(rates: Rates) -> str:
    return f"{percent(rates.old_rate)} of the old rows, {percent(rates.new_rate)} of the new; change in points"


def _share(count: int, of: int) -> float:
    return count / of if of else math.nan
