import math
from pathlib import Path

import pytest

import galaxy_batch.report
from galaxy_batch.report.page import Tile, count, interval, number, percent, points, render
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
    pictures = [Tile(b"jpeg", HOSTILE, (HOSTILE, "b")), Tile(None, HOSTILE, (), HOSTILE)]
    values = {HOSTILE: HOSTILE, "uri": "s3://key:secret@host/a.csv?sig=abc", "columns": {"a": ["b", "c"], "d": None}}
    html = render(
        package, "all.html", title=HOSTILE, about=[(HOSTILE, HOSTILE)], text=HOSTILE, values=values, pictures=pictures
    )
    shown = Page(html)
    assert "script" not in shown.tags
    assert shown.tags.count("img") == 1
    assert all(source.startswith(("#", "data:image/jpeg;base64,")) for source in shown.sources)
    assert shown.headings == [HOSTILE.replace(">", "&gt;").replace("<", "&lt;").replace('"', "&#34;")]
    assert "3 (75.0%)" in shown.words
    assert "s3://host/a.csv" in shown.words
    assert "secret" not in html
    assert "columns.a b, c columns.d –" in " ".join(html.replace("<", " <").replace(">", "> ").split()).replace(
        " </td> <td> ", " "
    ).replace(" </td> </tr> <tr> <td> ", " ")


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
    assert {path.name for path in folder.iterdir()} == {"base.html", "parts.html", "style.css"}
