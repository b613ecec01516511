"""Tables and figures of the page of a release, from its counts."""

from typing import Any

import numpy as np
from markupsafe import Markup

from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.release_page.counts import ReleaseCounts
from galaxy_batch.release_page.figures import confidence_histograms, review_curve
from galaxy_batch.report.figures import embed
from galaxy_batch.report.page import count, percent
from galaxy_batch.rows import ReviewFlag, Status
from galaxy_batch.stats import share

__all__ = ["accuracy_tables", "class_tables", "flag_tables", "headline"]

_SHOWN_BINS = 50


def headline(counts: ReleaseCounts, caveat: str) -> list[tuple[str, str, str]]:
    """Name, value and remark of each headline number.

    Args:
        counts: of the release.
        caveat: why the mean confidence is not the expected accuracy; empty where it is.
    """
    classified, unflagged = int(counts.classified.sum()), int(counts.unflagged.sum())
    mix = zip(counts.classes, counts.classified.sum(axis=1).tolist(), strict=True)
    bad = [f"{n:,} {status}" for status, n in counts.statuses.most_common() if status != Status.OK]
    frequent = max(ReviewFlag, key=counts.flagged)
    most = f", {counts.flagged(frequent):,} {frequent.name}" if counts.flagged(frequent) else ""
    return [
        ("Galaxies", f"{counts.rows:,}", f"{int(counts.sky.sum()):,} with a position"),
        (
            "With a class",
            percent(share(classified, counts.rows)),
            ", ".join(f"{percent(share(n, classified))} {c}" for c, n in mix),
        ),
        ("Without a class", f"{counts.failed:,}", ", ".join(bad) or "every cutout could be read"),
        (
            "Flagged for review",
            percent(share(counts.flagged(), counts.rows)),
            f"{count(counts.flagged(), 'row')}{most}",
        ),
        (
            "Expected accuracy",
            "unknown" if caveat else percent(share(counts.confidence_sum.sum(), classified)),
            caveat
            or "for galaxies like the calibration sample; "
            f"{percent(share(counts.unflagged_sum.sum(), unflagged))} for the {count(unflagged, 'row')} without a flag",
        ),
        ("Repeated images", f"{counts.flagged(ReviewFlag.REPEATED_IMAGE):,}", "rows whose cutout many objects share"),
    ]


def class_tables(counts: ReleaseCounts, min_confidence: float) -> dict[str, Any]:
    """Galaxies of each class, and the distribution of their confidence."""
    totals, unflagged = counts.classified.sum(axis=1), counts.unflagged.sum(axis=1)
    by_class = list(zip(counts.classes, totals.tolist(), strict=True))
    lowest = _SHOWN_BINS // len(counts.classes) if len(counts.classes) > 1 else 0
    bins = counts.classified.reshape(len(counts.classes), _SHOWN_BINS, -1).sum(axis=2)
    bins[:, lowest] += bins[:, :lowest].sum(axis=1)  # confidences that rounding put below 1 / classes
    shown = dict(zip(counts.classes, bins[:, lowest:], strict=True))
    described = ", ".join(f"{name}: {rows:,}" for name, rows in by_class)
    return {
        "min_confidence": min_confidence,
        "class_counts": [*by_class, ("no class", counts.failed)],
        "class_rows": [
            [
                name,
                f"{total:,}",
                percent(share(total, totals.sum())),
                f"{left:,}",
                percent(share(left, unflagged.sum())),
            ]
            for (name, total), left in zip(by_class, unflagged.tolist(), strict=True)
        ],
        "confidence": embed(
            lambda width_px: confidence_histograms(width_px, shown, lowest / _SHOWN_BINS, min_confidence),
            f"Histograms of the confidence by class. {described}",
        ),
    }


def accuracy_tables(counts: ReleaseCounts) -> dict[str, Any]:
    """Expected accuracy of all rows and of each class, and by the share of the rows reviewed."""
    sets = (counts.classified, counts.confidence_sum, counts.unflagged, counts.unflagged_sum)
    audited = sum(n for mask, n in counts.masks.items() if mask & ReviewFlag.AUDIT and not mask & ReviewFlag.UNREADABLE)
    return {
        "audited": audited,
        "review_curve": _review_curve(counts) if counts.classified.any() else None,
        "accuracy_rows": [
            _expected_accuracy(name, *values)
            for name, *values in [("all", *sets), *zip(counts.classes, *sets, strict=True)]
        ],
    }


def _expected_accuracy(name: str, rows: Any, sums: Any, unflagged: Any, unflagged_sums: Any) -> list[str]:
    accuracies = percent(share(sums.sum(), rows.sum())), percent(share(unflagged_sums.sum(), unflagged.sum()))
    return [name, f"{int(rows.sum()):,}", accuracies[0], f"{int(unflagged.sum()):,}", accuracies[1]]


def _review_curve(counts: ReleaseCounts) -> Markup:
    rows, sums = counts.classified.sum(axis=0), counts.confidence_sum.sum(axis=0)
    left, right = np.cumsum(rows[::-1])[::-1], np.cumsum(sums[::-1])[::-1]
    have = left >= max(1, 0.01 * left[0])
    reviewed, accuracy = 1 - left[have] / left[0], right[have] / left[have]
    flagged, label = None, "Expected accuracy of the other rows by the share of the rows reviewed."
    if counts.unflagged.any():
        flagged = 1 - share(counts.unflagged.sum(), left[0]), share(counts.unflagged_sum.sum(), counts.unflagged.sum())
        label += f" All flagged rows: {flagged[0]:.1%} and {flagged[1]:.1%}."
    return embed(lambda width_px: review_curve(width_px, reviewed, accuracy, flagged), label)


def flag_tables(counts: ReleaseCounts, manifest: CatalogManifest) -> dict[str, Any]:
    """Rows with each review flag, and with each status."""
    rows = []
    for flag in ReviewFlag:
        number = counts.flagged(flag)
        numbers = [f"{number:,}", percent(share(number, counts.rows)), f"{counts.flagged(flag, alone=True):,}"]
        measured = number > 0 or _is_measured(flag, manifest)
        rows.append(
            [flag.name, *(numbers if measured else "–––"), flag.meaning + ("" if measured else " (not measured)")]
        )
    statuses = [[status, f"{n:,}", percent(share(n, counts.rows))] for status, n in counts.statuses.most_common()]
    return {"flag_rows": rows, "status_rows": statuses}


def _is_measured(flag: ReviewFlag, manifest: CatalogManifest) -> bool:
    """Whether a row could get this flag: some need positions, a limit, or several views of each cutout."""
    if flag == ReviewFlag.NO_POSITION:
        return manifest.config.get("manifest", {}).get("ra_column", "") is not None
    if flag == ReviewFlag.UNFAMILIAR:
        return manifest.max_unfamiliarity is not None
    if flag == ReviewFlag.UNSTABLE:
        of_model = manifest.checkpoint.get("spec", {}).get("views", 1)
        of_run = manifest.config.get("classify", {}).get("stability_views", 1)
        return manifest.max_instability is not None and max(of_model, of_run) > 1
    return True
