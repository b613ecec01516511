import re
from pathlib import Path

import duckdb
import pytest

from galaxy_batch.release_page.counts import BINS, ReleaseCounts
from galaxy_batch.release_page.sections import accuracy_section, classes_section, review_section
from galaxy_batch.rows import ReviewFlag
from tests.release_page.test_page import page_of
from tests.support.html_pages import Page
from tests.support.skies import publish_rows, sky_rows


def counts_of() -> ReleaseCounts:
    """100 smooth rows of confidence 0.9 and 100 featured ones of 0.6; the latter are flagged, and 10 more failed."""
    counts = ReleaseCounts(("smooth", "featured"), 0, 0)
    for label, confidence in ((0, 0.9), (1, 0.6)):
        place = round(confidence * BINS)
        counts.confident[label, place], counts.confidence_sum[label, place] = 100, 100 * confidence
        if label == 0:
            counts.kept[label, place], counts.kept_sum[label, place] = 100, 100 * confidence
    counts.rows = 210
    counts.masks.update({0: 100, int(ReviewFlag.LOW_CONFIDENCE): 97, 129: 3, int(ReviewFlag.UNREADABLE): 10})
    counts.statuses.update({"ok": 200, "missing": 10})
    return counts


def test_expected_accuracy_is_mean_confidence() -> None:
    html = accuracy_section(counts_of(), {"checkpoint": {"accuracy": 0.925, "ece": 0.0231}})
    text = Page(html).text
    assert "all20075.0%10090.0%" in text
    assert "featured10060.0%0–" in text
    assert "right for 92.5%" in text
    assert "0.023" in text
    assert "the 3 rows with the flag AUDIT" in text
    (points,) = re.findall(r'points="([^"]*)"', html)
    ends = [tuple(map(float, point.split(","))) for point in points.split()]
    assert ends[0] != ends[-1]
    assert "all that is flagged: 50.0% and 90.0%" in html
    assert "right for" not in accuracy_section(counts_of(), {})


def test_classes_and_flags_are_counted() -> None:
    text = Page(classes_section(counts_of(), 0.75)).text
    assert "smooth10050.0%100100.0%" in text
    assert "no class" in text
    text = Page(review_section(counts_of(), {}, [])).text
    assert "110 of 210 rows have at least one flag" in text
    assert re.search(r"LOW_CONFIDENCE: [^0-9]*10047.6%97", text)
    assert re.search(r"AUDIT: [^0-9]*31.4%0", text)
    for flag in ReviewFlag:
        assert f"{flag.name}: " in text


def test_flags_that_nobody_looked_for_are_not_said_to_be_none() -> None:
    def shown(**manifest: object) -> list[str]:
        text = Page(review_section(counts_of(), manifest, [])).text
        return re.findall(r"(UNFAMILIAR|UNSTABLE): [a-z, ]*?[(]not looked for[)]–––", text)

    several, one = {"classify": {"stability_views": 2}}, {"classify": {"stability_views": 1}}
    assert shown() == ["UNFAMILIAR", "UNSTABLE"]
    assert shown(max_unfamiliarity=1.5, max_instability=0.1, config=one) == ["UNSTABLE"]
    assert shown(max_unfamiliarity=1.5, max_instability=0.1, config=several) == []
    assert shown(max_instability=0.1, checkpoint={"spec": {"views": 8}}) == ["UNFAMILIAR"]


@pytest.mark.parametrize("classes", [("smooth",), ("a", "b", "c"), tuple("abcdefghij")], ids=len)
def test_any_number_of_classes(classes: tuple[str, ...]) -> None:
    counts = ReleaseCounts(classes, 0, 0)
    counts.confident[:, BINS // len(classes) - 1 :] = 1
    html = classes_section(counts, 0.5)
    shown = sum(int(n.replace(",", "")) for n in re.findall(r"(?<=: )([\d,]+)</text>", html))
    assert shown == counts.confident.sum()  # no bin is left out


def test_the_queries_on_the_page_run(tmp_path: Path) -> None:
    catalog = publish_rows(tmp_path, sky_rows(300))
    html, _ = page_of(catalog)
    queries = re.findall(r"<pre><code>(.*?)</code></pre>", html, re.DOTALL)[0]
    for query in queries.replace("&#x27;", "'").replace("&gt;", ">").split(";"):
        if query.strip():
            assert duckdb.sql(query).fetchall()
