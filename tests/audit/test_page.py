"""The page of an audit: sections, figures, and layout."""

import dataclasses
import math
from pathlib import Path

import pytest

from galaxy_batch.audit.estimate import NO_ESTIMATE, Estimate
from galaxy_batch.audit.page import audit_page
from galaxy_batch.audit.result import AuditResult, ClassAccuracy, GroupAccuracy, PromisedAccuracy
from tests.support.browser import CHROMIUM, layouts
from tests.support.html_pages import Page

GOOD, FAIR = Estimate(0.95, 0.91, 0.975, 210, 205.0), Estimate(0.6, 0.45, 0.73, 40, 40.0)
RESULT = AuditResult(
    catalog_uri="/surveys/out/release=dr1/model=0123456789abcdef/catalog",
    release="dr1",
    model_id="0123456789abcdef",
    queue="first-look",
    rows=10_000,
    classified=9_800,
    queued=300,
    looked_at=260,
    verdicts=250,
    artifacts=7,
    undecided=3,
    min_probability=0.5,
    left_out={"of another catalog": 2},
    not_covered="",
    accuracy=GOOD,
    expected_accuracy=0.94,
    holds=True,
    statement="The stated confidence holds on this survey.",
    accuracy_if_undecided_wrong=0.93,
    calibration_error=Estimate(0.01, 0.0, 0.03),
    promised=PromisedAccuracy(0.9, 500, (0.87, 0.92)),
    artifact_share=Estimate(0.02, 0.01, 0.05, 257, 250.0),
    undecided_share=Estimate(0.01, 0.0, 0.03, 260, 250.0),
    classes=(
        ClassAccuracy("smooth", 6_000, 0.95, GOOD, FAIR, Estimate(0.6, 0.55, 0.65, 250, 250.0)),
        ClassAccuracy("featured", 3_800, 0.92, FAIR, GOOD, Estimate(0.38, 0.33, 0.43, 250, 250.0)),
    ),
    bins=(GroupAccuracy("0.5 to 0.6", 700, 0.55, FAIR), GroupAccuracy("0.99 to 1", 9_100, 0.995, GOOD)),
    flags=(GroupAccuracy("LOW_CONFIDENCE", 700, 0.55, FAIR), GroupAccuracy("no flag", 9_000, 0.97, NO_ESTIMATE)),
)


def test_the_page_says_everything() -> None:
    html = audit_page(RESULT)
    page = Page(html)
    assert page.headings == ["Confidence", "Classes", "Review flags", "Verdicts"]
    for text in (
        "95.0%", "95% interval 91.0–97.5%", "mean of 9,800 rows", "The stated confidence holds on this survey.",
        "5,880", "5,390 to 6,370", "60.0% (45.0–73.0%)", "left out: of another catalog",
        "200 rows of the catalog without a class are not part",
        "40 galaxies of the queue have no verdict yet", "not above 50%", "People did not decide on 1.0%",
        "90.0% of 500 test galaxies, 95% interval 87.0–92.0%; the intervals overlap",
    ):  # fmt: skip
        assert text in " ".join(page.text.split()), text
    assert html.count("<svg") == 4
    assert "55.0% stated, 60.0% (45.0–73.0%)" in html
    assert not {"script", "link", "iframe", "object"} & set(page.tags)


@pytest.mark.parametrize(
    ("interval", "words"), [((0.7, 0.8), "on this survey it is higher"), ((0.98, 0.99), "on this survey it is lower")]
)
def test_another_accuracy_than_the_checkpoints(interval: tuple[float, float], words: str) -> None:
    promised = PromisedAccuracy(sum(interval) / 2, 100, interval)
    assert words in Page(audit_page(dataclasses.replace(RESULT, promised=promised))).text


def test_a_page_without_estimates() -> None:
    nothing = dataclasses.replace(
        RESULT, accuracy=NO_ESTIMATE, calibration_error=NO_ESTIMATE, artifact_share=NO_ESTIMATE, promised=None,
        undecided_share=NO_ESTIMATE, accuracy_if_undecided_wrong=math.nan, holds=None, not_covered="no random draw",
        statement="Cannot be estimated.", queue=None, queued=None,
        classes=tuple(
            dataclasses.replace(of, purity=NO_ESTIMATE, completeness=NO_ESTIMATE, share=NO_ESTIMATE)
            for of in RESULT.classes
        ),
        bins=tuple(dataclasses.replace(group, accuracy=NO_ESTIMATE) for group in RESULT.bins),
        flags=tuple(dataclasses.replace(group, accuracy=NO_ESTIMATE) for group in RESULT.flags),
    )  # fmt: skip
    html = audit_page(nothing)
    assert "<svg" not in html
    assert "nan" not in Page(html).text
    assert "No range of confidence has enough verdicts" in html
    assert '<p class="note">Cannot be estimated.' in html


def test_names_are_escaped() -> None:
    assert "<script>" not in audit_page(dataclasses.replace(RESULT, release="<script>", statement="<script>"))


@pytest.mark.skipif(CHROMIUM is None, reason="needs an installed Chromium")
@pytest.mark.parametrize("width_px", [320, 390, 801, 1280])
def test_nothing_scrolls_sideways_and_text_is_large_and_whole(width_px: int, tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    page.write_text(audit_page(RESULT))
    (layout,) = layouts([page], width_px, tmp_path)
    assert layout["too_wide"] == []
    assert layout["broken_words"] == []
    assert layout["smallest_text"][0] >= 11
