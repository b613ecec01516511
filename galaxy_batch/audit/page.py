"""The page of an audit."""

from collections.abc import Sequence
from typing import Any

from galaxy_batch.audit.estimate import Estimate
from galaxy_batch.audit.figures import reliability_diagram, share_chart
from galaxy_batch.audit.result import AuditResult, GroupAccuracy
from galaxy_batch.report.figures import embed
from galaxy_batch.report.page import count, interval, number, percent, render

__all__ = ["audit_page"]

_UNKNOWN = "–"


def audit_page(result: AuditResult) -> str:
    """The page as HTML."""
    about = [("model", result.model_id)]
    about += [("queue", result.queue)] if result.queue else []
    return render(
        "galaxy_batch.audit",
        "audit.html",
        title=f"Audit: {result.release}",
        about=about,
        result=result,
        headline=_headline(result),
        classes=[
            [of.name, f"{of.rows:,}", _rows(of.purity), *map(_with_limits, (of.purity, of.completeness))]
            for of in result.classes
        ],
        counts=[_expected_rows(of.name, of.rows, of.share, result.classified) for of in result.classes]
        + [_expected_rows("artifact", None, result.artifact_share, result.classified)],
        bins=list(map(_group, result.bins)),
        flags=list(map(_group, result.flags)),
        reliability=_reliability(result.bins),
        flag_chart=_chart(result.flags, result.accuracy.value),
        promised=_promised(result),
        verdicts=_verdicts(result),
    )


def _headline(result: AuditResult) -> list[tuple[str, str, str]]:
    accuracy, error = result.accuracy, result.calibration_error
    promised = f"mean of {count(result.classified, 'row')}"
    return [
        ("Accuracy", percent(accuracy.value), _limits(accuracy) or "cannot be estimated from these verdicts"),
        ("Mean confidence", percent(result.expected_accuracy), promised),
        ("Calibration error", number(error.value), _limits(error, as_percent=False) or "cannot be estimated"),
        ("Verdicts", f"{result.verdicts:,}", f"of {count(result.looked_at, 'galaxy', 'galaxies')} looked at"),
        ("Artifacts", percent(result.artifact_share.value), _limits(result.artifact_share) or "cannot be estimated"),
    ]


def _limits(estimate: Estimate, as_percent: bool = True) -> str:
    return f"95% interval {interval(estimate.interval, as_percent=as_percent)}" if estimate.known else ""


def _with_limits(estimate: Estimate) -> str:
    limits = interval(estimate.interval, as_percent=True)
    return f"{percent(estimate.value)} ({limits})" if estimate.known else _UNKNOWN


def _rows(estimate: Estimate) -> str:
    return f"{estimate.rows:,}" if estimate.known else _UNKNOWN


def _group(group: GroupAccuracy) -> list[str]:
    return [
        group.name,
        f"{group.rows:,}",
        _rows(group.accuracy),
        percent(group.confidence),
        _with_limits(group.accuracy),
    ]


def _expected_rows(name: str, predicted: int | None, share: Estimate, rows: int) -> list[str]:
    """A class, its rows in the catalog, and those that people would give it."""
    shown = f"{predicted:,}" if predicted is not None else _UNKNOWN
    if not share.known:
        return [name, shown, _UNKNOWN, _UNKNOWN]
    value, low, high = (f"{round(rows * part):,}" for part in (share.value, *share.interval))
    return [name, shown, value, f"{low} to {high}"]


def _reliability(bins: Sequence[GroupAccuracy]) -> Any:
    known = [group for group in bins if group.accuracy.known]
    text = "Accuracy by stated confidence: "
    text += "; ".join(f"{percent(group.confidence)} stated, {_with_limits(group.accuracy)}" for group in known)
    return embed(lambda width_px: reliability_diagram(width_px, known), text) if known else None


def _chart(groups: Sequence[GroupAccuracy], over_all: float) -> Any:
    known = [group for group in groups if group.accuracy.known]
    text = "Accuracy by review flag: " + "; ".join(f"{group.name} {_with_limits(group.accuracy)}" for group in known)
    return embed(lambda width_px: share_chart(width_px, known, over_all), text) if known else None


def _promised(result: AuditResult) -> str:
    """A sentence that compares the accuracy with that of the checkpoint's test galaxies."""
    promised, accuracy = result.promised, result.accuracy
    if promised is None or not accuracy.known:
        return ""
    of = f" of {count(promised.galaxies, 'test galaxy', 'test galaxies')}" if promised.galaxies else ""
    limits = f", 95% interval {interval(promised.interval, as_percent=True)}" if promised.interval else ""
    low, high = promised.interval or (promised.accuracy, promised.accuracy)
    outcome = "the intervals overlap: no difference is shown"
    if accuracy.high < low:
        outcome = "on this survey it is lower"
    elif accuracy.low > high:
        outcome = "on this survey it is higher"
    return f"The checkpoint’s accuracy was measured as {percent(promised.accuracy)}{of}{limits}; {outcome}."


def _verdicts(result: AuditResult) -> list[list[str]]:
    """How many verdicts there are of each kind."""
    queued = [["galaxies of the queue", f"{result.queued:,}"]] if result.queued is not None else []
    return [
        *queued,
        ["galaxies looked at", f"{result.looked_at:,}"],
        ["given a class", f"{result.verdicts:,}"],
        ["artifacts", f"{result.artifacts:,}"],
        ["undecided", f"{result.undecided:,}"],
        *([f"left out: {reason}", f"{rows:,}"] for reason, rows in result.left_out.items()),
    ]
