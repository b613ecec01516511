from galaxy_batch.report.html import Tile, code, drawing, page, settings, tiles
from tests.support.html_pages import Page

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


def test_whatever_data_says_is_only_text() -> None:
    pictures = [Tile(b"jpeg", HOSTILE, (HOSTILE, "b")), Tile(None, HOSTILE, (), HOSTILE)]
    html = tiles(pictures) + code(HOSTILE) + settings({HOSTILE: HOSTILE}) + drawing("<svg></svg>", HOSTILE)
    shown = Page(page(HOSTILE, [(HOSTILE, HOSTILE)], "", {HOSTILE: html}))
    assert "script" not in shown.tags
    assert shown.tags.count("img") == 1
    assert all(source.startswith(("#", "data:")) for source in shown.sources)


def test_a_picture_that_is_not_there_says_why_and_all_have_words() -> None:
    html = tiles([Tile(b"jpeg", "a galaxy"), Tile(None, "another", reason="missing")])
    assert 'alt="a galaxy"' in html
    assert 'aria-label="another">missing<' in html
    assert "none of them" in tiles([], "none of them")


def test_settings_are_flat_and_show_no_credentials() -> None:
    html = settings({"manifest": {"uri": "s3://key:secret@host/a.csv?sig=abc", "columns": ["a", "b"]}, "x": None})
    assert "manifest.uri" in html
    assert "s3://host/a.csv" in html
    assert "secret" not in html
    assert "abc" not in html
    assert "a, b" in html
