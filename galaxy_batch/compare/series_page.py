"""A series of catalogs as one HTML page, and as `series.json`."""

import json
import math
from collections.abc import Iterable
from typing import Any

from galaxy_batch.compare.result import plain
from galaxy_batch.compare.series_figures import (
    class_shares,
    confidence_quantiles,
    drift,
    failures_and_flags,
    row_counts,
)
from galaxy_batch.compare.series_result import QUANTILES, CatalogNumbers, Series, Step
from galaxy_batch.errors import without_secrets
from galaxy_batch.report.figures import embed
from galaxy_batch.report.page import count, interval, number, percent, points, render
from galaxy_batch.rows import ReviewFlag, Status
from galaxy_batch.stats import share
from galaxy_batch.storage.files import join, write_atomically

__all__ = ["write_series"]

_DRAWN_CLASSES = 9
_SHORT_ID = 8  # characters of a model's id in tables


def write_series(series: Series, output_uri: str) -> tuple[str, str]:
    """Write `series.json` and `index.html`; their URIs."""
    json_uri, page_uri = join(output_uri, "series.json"), join(output_uri, "index.html")
    write_atomically(json_uri, (json.dumps(series_content(series), allow_nan=False, indent=1) + "\n").encode())
    write_atomically(page_uri, _page(series).encode())
    return without_secrets(json_uri), without_secrets(page_uri)


def series_content(series: Series) -> dict[str, Any]:
    """The series as JSON; numbers that cannot be computed are null."""
    content: dict[str, Any] = plain(series)
    return content


def _page(series: Series) -> str:
    classes = _classes(series)
    drawn, statuses, flags = _drawn(series, classes), _statuses(series), _flags(series)
    return render(
        "galaxy_batch.compare",
        "series.html",
        title="Series of releases",
        about=[("folder", series.series_uri), ("order", "by name" if series.order == "name" else "by publication")],
        series=series,
        headline=_headline(series),
        catalogs=[_catalog(series, catalog) for catalog in series.catalogs],
        rows_drawing=embed(lambda width_px: row_counts(width_px, series), "Rows of each catalog"),
        classes=classes,
        drawn_classes=len(drawn),
        class_drawing=embed(lambda width_px: class_shares(width_px, series, drawn), "Class shares by release"),
        class_rows=[
            [_name(series, catalog), *(_share_of(catalog, name) for name in classes)] for catalog in series.catalogs
        ],
        failure_drawing=embed(
            lambda width_px: failures_and_flags(width_px, series), "Rows without a class, and flagged, by release"
        ),
        statuses=statuses,
        status_rows=[
            [
                _name(series, catalog),
                *(_part(catalog.status_counts.get(status, 0), catalog.rows) for status in statuses),
            ]
            for catalog in series.catalogs
        ],
        flags=[flag.replace("_", " ").lower() for flag in flags],
        flag_rows=[
            [_name(series, catalog)]
            + [percent(share(catalog.flag_counts.get(flag, 0), catalog.rows)) for flag in flags]
            for catalog in series.catalogs
        ],
        confidence_drawing=embed(lambda width_px: confidence_quantiles(width_px, series), "Confidence by release"),
        confidence_header=["mean", "5%", "25%", "median", "75%", "95%"],
        confidence_rows=[
            [_name(series, catalog), *(number(catalog.confidence[key]) for key in ("mean", *QUANTILES))]
            for catalog in series.catalogs
        ],
        drift_drawing=embed(lambda width_px: drift(width_px, series), "Changes from one release to the next")
        if series.steps
        else None,
        matched_rows=[_matched(series, step) for step in series.steps],
        shift_rows=[_shifts(series, step) for step in series.steps],
        gates=[(_named(series, step), ", ".join(step.gates_crossed)) for step in series.steps if step.gates_crossed],
        not_compared=[pair.reason for pair in series.not_compared],
        skipped=[[one.release, one.model_id, one.reason] for one in series.skipped],
    )


def _headline(series: Series) -> list[tuple[str, str, str]]:
    newest, step = series.catalogs[series.newest], series.last_step
    cards = [
        ("Releases", str(len(series.releases)), f"{count(len(series.models), 'model')}, "
         f"{count(len(series.catalogs), 'catalog')}"),
        ("Newest", newest.release, f"{newest.model_id}, {newest.created[:10]}; {count(newest.rows, 'row')}"),
    ]  # fmt: skip
    if step is None:
        return cards
    before = series.catalogs[step.old]
    since = f"since {before.release}" + (f", {before.model_id}" if "model" in step.changed else "")
    changed = _changed_most(step)
    change = points(step.class_share_change[changed]) if changed else "–"
    limits = interval(step.flip_interval, as_percent=True)
    return [
        *cards,
        ("Class changed", percent(step.flip_rate), f"{since}: {step.flipped:,} of {step.compared:,}; 95% {limits}"),
        ("Largest change of a class share", change, f"{changed}, points, {since}"),
        ("Without a class", percent(newest.failed_share), f"{points(step.failed_rate_increase)} points {since}"),
        ("Flagged for review", percent(newest.flagged_share), f"{points(step.flagged_rate_increase)} points {since}"),
    ]


def _catalog(series: Series, catalog: CatalogNumbers) -> list[str]:
    return [
        f"{catalog.release}, {catalog.model_id}" if len(series.models) > 1 else catalog.release,
        catalog.created[:10] or "–",
        f"{catalog.rows:,}",
        percent(catalog.failed_share),
        percent(catalog.flagged_share),
        f"{catalog.without_position:,}",
        number(catalog.confidence["median"]),
    ]


def _name(series: Series, catalog: CatalogNumbers) -> str:
    """The release, and the beginning of the model's id where there are several models."""
    return catalog.release if len(series.models) == 1 else f"{catalog.release}, {_short_id(series, catalog.model_id)}"


def _short_id(series: Series, model_id: str) -> str:
    short = model_id[:_SHORT_ID]
    return short if sum(other.startswith(short) for other in series.models) == 1 else model_id


def _named(series: Series, step: Step) -> str:
    """Both catalogs of a step: the releases, and the models where these differ."""
    old, new = series.catalogs[step.old], series.catalogs[step.new]
    if "model" not in step.changed:
        return f"{old.release} → {new.release}"
    return f"{_name(series, old)} → {_name(series, new)}"


def _matched(series: Series, step: Step) -> list[str]:
    return [
        _named(series, step),
        f"{step.matched:,}",
        f"{step.only_old:,}",
        f"{step.only_new:,}",
        percent(step.flip_rate),
        interval(step.flip_interval, as_percent=True) if step.compared else "–",
    ]


def _shifts(series: Series, step: Step) -> list[str]:
    changed = _changed_most(step)
    return [
        _named(series, step),
        f"{points(step.class_share_change[changed])} {changed}" if changed else "–",
        number(step.psi["confidence"]),
        number(step.ks["confidence"]),
        number(step.mean_change["confidence"]),
        points(step.failed_rate_increase),
        points(step.flagged_rate_increase),
    ]


def _changed_most(step: Step) -> str:
    """The class whose share changed most; empty where no share is known."""
    known = {name: abs(change) for name, change in step.class_share_change.items() if not math.isnan(change)}
    return max(known, key=known.__getitem__, default="")


def _classes(series: Series) -> list[str]:
    """The classes of all catalogs, those of the first one first."""
    return list(dict.fromkeys(name for catalog in series.catalogs for name in catalog.class_shares))


def _drawn(series: Series, classes: list[str]) -> list[str]:
    """Classes with a panel: of two only the second, since the other is its complement; of many the most frequent."""
    if len(classes) == 2:
        return classes[1:]
    rows = {name: sum(catalog.class_counts.get(name, 0) for catalog in series.catalogs) for name in classes}
    kept = sorted(classes, key=lambda name: -rows[name])[:_DRAWN_CLASSES]
    return [name for name in classes if name in kept]


def _share_of(catalog: CatalogNumbers, name: str) -> str:
    return percent(catalog.class_shares.get(name, math.nan))


def _part(rows: int, of: int) -> str:
    return f"{rows:,} ({percent(share(rows, of))})" if rows else "0"


def _statuses(series: Series) -> list[str]:
    """Statuses of rows without a class that occur."""
    there = {status for catalog in series.catalogs for status, rows in catalog.status_counts.items() if rows}
    return _in_order((str(status) for status in Status if status != Status.OK), there - {str(Status.OK)})


def _flags(series: Series) -> list[str]:
    there = {flag for catalog in series.catalogs for flag, rows in catalog.flag_counts.items() if rows}
    return _in_order((str(flag.name) for flag in ReviewFlag), there)


def _in_order(known: Iterable[str], there: set[str]) -> list[str]:
    known = list(known)
    return [name for name in known if name in there] + sorted(there - set(known))
