import math
from pathlib import Path

import pytest

import galaxy_batch.report
from galaxy_batch.report.page import Picture, Tile, count, interval, number, percent, points, render
from tests.support.html_pages import Page

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
TEMPLATE = """
{% extends "base.html" %}
{% from "parts.html" import bars, cards, figure, settings, table, tiles %}
{% block body %}
{{ cards([(text, text, text)]) }}{{ heading(text) }}{{ table([text], [[text]], text) }}{{ bars([(text, 3), ("b", 1)]) }}
{{ settings(text, values) }}{{ tiles(pictures) }}{{ tiles([], text) }}{% call figure(text) %}{{ text }}{% endcall %}
{% endblock %}
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with a template of its own."""
    (tmp_path / "pages_of_test" / "templates").mkdir(parents=True)
    (tmp_path / "pages_of_test" / "__init__.py").touch()
    (tmp_path / "pages_of_test" / "templates" / "all.html").write_text(TEMPLATE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "pages_of_test"


def test_every_value_is_escaped(package: str) -> None:
    nothing = Picture(None, HOSTILE, HOSTILE)
    pictures = [
        Tile((Picture(b"jpeg", HOSTILE), nothing), (HOSTILE, "b"), HOSTILE, {HOSTILE: HOSTILE}),
        Tile((nothing,)),
    ]
    values = {HOSTILE: HOSTILE, "uri": "s3://key:secret@host/a.csv?sig=abc", "columns": {"a": ["b", "c"], "d": None}}
    html = render(
        package, "all.html", title=HOSTILE, about=[(HOSTILE, HOSTILE)], text=HOSTILE, values=values, pictures=pictures
    )
    shown = Page(html)
    assert "script" not in shown.tags
    assert shown.tags.count("img") == 1
    (link,) = (source for source in shown.sources if not source.startswith(("#", "data:image/jpeg;base64,")))
    assert link == HOSTILE
    assert html.count('rel="noopener noreferrer"') == 1
    assert shown.headings == [HOSTILE.replace(">", "&gt;").replace("<", "&lt;").replace('"', "&#34;")]
    assert "3 (75.0%)" in shown.words
    assert "s3://host/a.csv" in shown.words
    assert "secret" not in html
    assert '<td>columns.a</td><td data-label="value">b, c</td>' in html
    assert '<td>columns.d</td><td data-label="value">–</td>' in html


def test_counts_and_numbers_as_text() -> None:
    assert (count(1, "row"), count(2000, "row"), count(0, "galaxy", "galaxies")) == (
        "1 row",
        "2,000 rows",
        "0 galaxies",
    )
    assert (percent(0.1234), points(-0.0123), points(0.0001), number(-1.5, 1)) == ("12.3%", "−1.2", "0.0", "−1.5")
    assert (interval((0.1, 0.25), 2), interval((0.1, 0.25), as_percent=True)) == ("0.10 to 0.25", "10.0–25.0%")
    assert {percent(math.nan), points(math.nan), number(math.nan), number(None), interval((math.nan, 1))} == {"–"}


def test_the_templates_are_beside_the_code() -> None:
    folder = Path(galaxy_batch.report.__file__).parent / "templates"
    assert {path.name for path in folder.iterdir()} == {"base.html", "colours.css", "parts.html", "style.css"}
