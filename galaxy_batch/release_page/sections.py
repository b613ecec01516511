"""The sections of a release's page, each a pure function from counts to HTML."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from galaxy_batch.release_page.counts import ReleaseCounts, mapped_class, share
from galaxy_batch.release_page.examples import Example
from galaxy_batch.report.figures import bars, curve, histograms
from galaxy_batch.report.html import (
    Tile,
    code,
    drawing,
    number,
    paragraph,
    percent,
    section,
    settings,
    side_by_side,
    table,
    tiles,
)
from galaxy_batch.rows import ReviewFlag

__all__ = [
    "accuracy_section",
    "classes_section",
    "cutouts_section",
    "making_section",
    "queries_section",
    "review_section",
]

_REASONS = {
    ReviewFlag.LOW_CONFIDENCE: "confidence under the review threshold",
    ReviewFlag.UNREADABLE: "no class, because there was no image",
    ReviewFlag.BLANK: "an (almost) empty frame",
    ReviewFlag.UNFAMILIAR: "unlike the galaxies that the model was trained on",
    ReviewFlag.UNSTABLE: "another answer when the cutout is flipped, turned or shifted",
    ReviewFlag.REPEATED_IMAGE: "the very same bytes stand for many objects: a placeholder",
    ReviewFlag.NO_POSITION: "no usable right ascension and declination",
    ReviewFlag.AUDIT: "drawn at random, to measure the accuracy without bias",
}
_SHOWN_BINS = 50


def classes_section(counts: ReleaseCounts, min_confidence: float) -> str:
    """How many galaxies of each class, and how sure the model is of them."""
    totals, kept = counts.confident.sum(axis=1), counts.kept.sum(axis=1)
    everything = [(name, int(total)) for name, total in zip(counts.classes, totals, strict=True)]
    rows = [
        [name, f"{total:,}", percent(share(total, totals.sum())), f"{left:,}", percent(share(left, kept.sum()))]
        for (name, total), left in zip(everything, kept.tolist(), strict=True)
    ]
    lowest = int(np.floor(_SHOWN_BINS / len(counts.classes))) if len(counts.classes) > 1 else 0
    panels = {
        name: _from(lowest, by_bin.reshape(_SHOWN_BINS, -1).sum(axis=1))
        for name, by_bin in zip(counts.classes, counts.confident, strict=True)
    }
    return (
        drawing(bars([*everything, ("no class", counts.failed)]), "All rows, by the most probable class.")
        + table(
            ["class", "galaxies", "share", "without a flag", "share"],
            rows,
            "Shares are of the rows with a class, and of those of them that no flag sends to review.",
        )
        + section(
            "Confidence",
            drawing(
                histograms(panels, lowest / _SHOWN_BINS, min_confidence),
                "Confidence is the calibrated probability of the predicted class. Each class has its own scale; left "
                f"of the dashed line, at {min_confidence:.3f}, rows are flagged LOW_CONFIDENCE.",
            ),
        )
    )


def accuracy_section(counts: ReleaseCounts, manifest: Mapping[str, Any]) -> str:
    """How often the classes should be right, if confidence is a probability on this survey too."""
    known = int(counts.confident.sum())
    if not known:
        return paragraph("No row has a class, so there is nothing to expect.")
    held_out = manifest.get("checkpoint", {})
    audited = sum(n for mask, n in counts.masks.items() if mask & ReviewFlag.AUDIT and not mask & ReviewFlag.UNREADABLE)
    rows = [_expected("all", counts.confident, counts.confidence_sum, counts.kept, counts.kept_sum)]
    by_class = zip(counts.confident, counts.confidence_sum, counts.kept, counts.kept_sum, strict=True)
    rows += [_expected(name, *values) for name, values in zip(counts.classes, by_class, strict=True)]
    measured = (
        f"On galaxies held out of its training the checkpoint was right for {percent(held_out['accuracy'])}, and its "
        f"confidence was off by {number(held_out['ece'])} on average (expected calibration error)."
        if {"accuracy", "ece"} <= held_out.keys()
        else ""
    )
    return (
        paragraph(
            "Confidence is a calibrated probability, so its mean is the share of right classes to expect.",
            measured,
            "That holds for galaxies like those it was calibrated on, all with a clear label. On another survey, the "
            f"{audited:,} rows with the flag AUDIT are a fair sample to label by hand.",
        )
        + table(
            ["class", "galaxies", "accuracy to expect", "without a flag", "accuracy to expect"],
            rows,
            "Mean confidence of all rows with a class, and of those that no flag sends to review.",
        )
        + section("What review buys", _review_curve(counts))
    )


def _review_curve(counts: ReleaseCounts) -> str:
    rows, sums = counts.confident.sum(axis=0), counts.confidence_sum.sum(axis=0)
    left, right = np.cumsum(rows[::-1])[::-1], np.cumsum(sums[::-1])[::-1]
    have = left >= max(1, 0.01 * left[0])
    reviewed, expected = 1 - left[have] / left[0], right[have] / left[have]
    marks = {}
    if counts.kept.any():
        flagged = 1 - share(counts.kept.sum(), counts.confident.sum())
        marks["all that is flagged"] = (flagged, share(counts.kept_sum.sum(), counts.kept.sum()))
    return drawing(
        curve(
            reviewed,
            expected,
            "share of the classified rows sent to people",
            "accuracy to expect of the rest",
            marks,
        ),
        "The line sends the least confident rows to people first; the dot sends every row with a flag, for whatever "
        "reason.",
    )


def review_section(counts: ReleaseCounts, manifest: Mapping[str, Any], failures: Sequence[Example]) -> str:
    """Which rows are flagged and why, and what went wrong with cutouts."""
    flags = []
    for flag in ReviewFlag:
        rows = counts.flagged(flag)
        numbers = [f"{rows:,}", percent(share(rows, counts.rows)), f"{counts.flagged(flag, alone=True):,}"]
        seen = rows > 0 or _looked_for(flag, manifest)
        words = f"{flag.name}: {_REASONS[flag]}" + ("" if seen else " (not looked for)")
        flags.append([words, *(numbers if seen else "–––")])
    statuses = [[status, f"{n:,}", percent(share(n, counts.rows))] for status, n in counts.statuses.most_common()]
    shown = [[str(e.object_id), e.status, e.error or ""] for e in failures]
    return (
        paragraph(f"{counts.flagged():,} of {counts.rows:,} rows have at least one flag.")
        + table(["flag", "rows", "share", "alone"], flags, "Alone: rows with no other flag.")
        + section(
            "Cutouts",
            table(["status", "rows", "share"], statuses),
            table(["object", "status", "error"], shown, "Some rows without a class, drawn by lot.", text=True)
            if shown
            else "",
        )
    )


def cutouts_section(sheets: Mapping[str, Mapping[str, Sequence[Tile]]]) -> str:
    """Contact sheets by class and kind of row."""
    html = paragraph(
        "Drawn by lot, as the network sees them; under each its class and confidence, its object_id, and its flags. "
        "Confident and uncertain ones are from the upper and lower tenth of each class by confidence, where no flag "
        "doubts the cutout; flagged ones are blank, repeated, unfamiliar or unstable."
    )
    for name, kinds in sheets.items():
        for kind, pictures in kinds.items():
            html += section(f"{name}: {kind}", tiles(pictures, "No such rows."))
    return html


def queries_section(catalog_uri: str, classes: Sequence[str]) -> str:
    """Queries to paste."""
    files = "'" + f"{catalog_uri}/**/*.parquet".replace("'", "''") + "'"
    wanted = mapped_class(tuple(classes)).replace("'", "''")
    return (
        section(
            "DuckDB",
            code(
                "-- count by class\n"
                f"SELECT predicted_class, count(*) AS galaxies, avg(confidence) AS mean_confidence\nFROM {files}\n"
                "GROUP BY predicted_class ORDER BY galaxies DESC;\n\n"
                "-- a clean sample\n"
                f"SELECT object_id, ra, dec, confidence\nFROM {files}\n"
                f"WHERE predicted_class = '{wanted}' AND confidence > 0.9 AND NOT needs_review;\n\n"
                "-- the review queue, least certain first\n"
                f"SELECT object_id, predicted_class, confidence, review_flags, status, error\nFROM {files}\n"
                "WHERE needs_review ORDER BY confidence NULLS FIRST;"
            ),
        )
        + section(
            "Python",
            code(
                "import lsdb  # the rows with a position; units and descriptions are in each file\n\n"
                f"catalog = lsdb.open_catalog({catalog_uri!r})\n"
                "near = catalog.cone_search(ra=180, dec=0, radius_arcsec=600).compute()"
            ),
        )
        + paragraph("What each column means stands in the files themselves, as a VOTable header.")
    )


def making_section(manifest: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """Where the catalog comes from."""
    names = ("release", "survey", "created", "run_id", "fingerprint", "model_id", "min_confidence", "rows")
    made = {name: manifest[name] for name in names if name in manifest} | {"files": len(manifest["files"])}
    made |= {"reused": manifest["reuse"]} if manifest.get("reuse") else {}
    made |= {name: run[name] for name in ("steady_rate_per_s", "step_seconds", "computed_rows") if run.get(name)}
    model = {k: v for k, v in manifest.get("checkpoint", {}).items() if k not in ("training", "checkpoint_id")}
    parts = {"The run": made, "The model": model, "Versions": manifest.get("versions", {})}
    shown = "".join(f"<div>{section(title, settings(values))}</div>" for title, values in parts.items() if values)
    return side_by_side(shown) + section("Config", settings(manifest.get("config", {})))


def _looked_for(flag: ReviewFlag, manifest: Mapping[str, Any]) -> bool:
    """Whether rows could have this flag: two need a limit, and one of them several views of each cutout."""
    if flag == ReviewFlag.UNFAMILIAR:
        return manifest.get("max_unfamiliarity") is not None
    if flag == ReviewFlag.UNSTABLE:
        model = manifest.get("checkpoint", {}).get("spec", {}).get("views", 1)
        asked = manifest.get("config", {}).get("classify", {}).get("stability_views", 1)
        return manifest.get("max_instability") is not None and max(model, asked) > 1
    return True


def _from(lowest: int, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The bins from the lowest on; what rounding put under it is counted in it."""
    return np.concatenate([[counts[: lowest + 1].sum()], counts[lowest + 1 :]])


def _expected(name: str, rows: Any, sums: Any, kept: Any, kept_sums: Any) -> list[str]:
    return [
        name,
        f"{int(rows.sum()):,}",
        percent(share(sums.sum(), rows.sum())),
        f"{int(kept.sum()):,}",
        percent(share(kept_sums.sum(), kept.sum())),
    ]
