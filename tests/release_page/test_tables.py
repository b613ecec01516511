"""Tables of the release page, from counts."""

from typing import Any

import pytest

from galaxy_batch.release_page.counts import BINS, ReleaseCounts
from galaxy_batch.release_page.tables import accuracy_tables, class_tables, flag_tables
from galaxy_batch.report.figures import new_figure
from galaxy_batch.rows import ReviewFlag
from tests.support.skies import manifest_with


def counts_of() -> ReleaseCounts:
    """100 smooth rows of confidence 0.9 and 100 featured ones of 0.6; the latter are flagged, and 10 more failed."""
    counts = ReleaseCounts(("smooth", "featured"), 0, 0)
    for label, confidence in ((0, 0.9), (1, 0.6)):
        number = round(confidence * BINS)
        counts.classified[label, number], counts.confidence_sum[label, number] = 100, 100 * confidence
        if label == 0:
            counts.unflagged[label, number], counts.unflagged_sum[label, number] = 100, 100 * confidence
    counts.rows = 210
    counts.masks.update({0: 100, int(ReviewFlag.LOW_CONFIDENCE): 97, 129: 3, int(ReviewFlag.UNREADABLE): 10})
    counts.statuses.update({"ok": 200, "missing": 10})
    return counts


def test_expected_accuracy_is_mean_confidence() -> None:
    values = accuracy_tables(counts_of())
    assert values["accuracy_rows"] == [
        ["all", "200", "75.0%", "100", "90.0%"],
        ["smooth", "100", "90.0%", "100", "90.0%"],
        ["featured", "100", "60.0%", "0", "–"],
    ]
    assert values["audited"] == 3
    assert "All flagged rows: 50.0% and 90.0%." in values["review_curve"]


def test_classes_and_flags_are_counted() -> None:
    values = class_tables(counts_of(), 0.75)
    assert values["class_rows"][0] == ["smooth", "100", "50.0%", "100", "100.0%"]
    assert values["class_counts"] == [("smooth", 100), ("featured", 100), ("no class", 10)]
    rows = {row[0]: row[1:4] for row in flag_tables(counts_of(), manifest_with())["flag_rows"]}
    assert rows.keys() == {flag.name for flag in ReviewFlag}
    assert rows["LOW_CONFIDENCE"] == ["100", "47.6%", "97"]
    assert rows["AUDIT"] == ["3", "1.4%", "0"]


def test_flags_that_were_not_measured_say_so() -> None:
    def unmeasured(**changes: Any) -> list[str]:
        manifest = manifest_with(**{"max_unfamiliarity": None, "max_instability": None, **changes})
        return [row[0] for row in flag_tables(counts_of(), manifest)["flag_rows"] if row[1] == "–" and "(not" in row[4]]

    several, one = {"classify": {"stability_views": 2}}, {"classify": {"stability_views": 1}}
    assert unmeasured() == ["UNFAMILIAR", "UNSTABLE"]
    assert unmeasured(max_unfamiliarity=1.5, max_instability=0.1, config=one) == ["UNSTABLE"]
    assert unmeasured(max_unfamiliarity=1.5, max_instability=0.1, config=several) == []
    assert unmeasured(max_instability=0.1, checkpoint={"spec": {"views": 8}}) == ["UNFAMILIAR"]


@pytest.mark.parametrize("classes", [("smooth",), ("a", "b", "c"), tuple("abcdefghij")], ids=len)
def test_every_bin_of_confidence_is_drawn(classes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    counts = ReleaseCounts(classes, 0, 0)
    counts.classified[:, BINS // len(classes) - 1 :] = 1
    drawn: list[int] = []
    monkeypatch.setattr(
        "galaxy_batch.release_page.tables.confidence_histograms",
        lambda width, shown, *_: drawn.append(sum(rows.sum() for rows in shown.values())) or new_figure(width, 100),
    )
    class_tables(counts, 0.5)
    assert drawn == [counts.classified.sum()] * 2
