import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from galaxy_batch.report.figures import BLUE, COUNT_COLOURS, GREY, INK, embed, is_narrow, new_figure, panels, png_bytes
from tests.support.repository import REPOSITORY

HOSTILE = '"><script>alert(1)</script>&$x$'


def draw(width_px: int) -> Figure:
    figure = new_figure(width_px, 200)
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color=BLUE)
    axis.set(xlabel=HOSTILE, title="title")
    axis.text(0, 0, "words", color=GREY)
    return figure


def drawings(html: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(f"<div>{html}</div>"))


def test_both_layouts_are_drawings_with_text_and_a_label() -> None:
    wide, narrow = drawings(embed(draw, HOSTILE, "sky"))
    assert (wide.attrib["class"], narrow.attrib["class"]) == ("wide sky", "narrow sky")
    assert (wide.attrib["viewBox"], narrow.attrib["viewBox"]) == ("0 0 900 200", "0 0 358 200")
    for drawing in (wide, narrow):
        assert drawing.attrib["aria-label"] == HOSTILE
        assert {HOSTILE, "title", "words"} <= {element.text for element in drawing.iter()}


def test_counts_are_seen_on_light_and_on_dark_pages() -> None:
    """Contrast as in WCAG 2.2; viridis begins at 1.2 on the dark page and ends at 1.3 on the light one."""

    def luminance(rgb: tuple[float, ...]) -> float:
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in rgb[:3]]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    style = (REPOSITORY / "galaxy_batch" / "report" / "templates" / "colours.css").read_text()
    pages = [to_rgb(f"#{paper}") for paper in re.findall(r"--paper: #(\w+);", style.replace("#fff;", "#ffffff;"))]
    assert len(pages) == 2
    for step in np.linspace(0, 1, 9):
        for page in pages:
            darker, lighter = sorted((luminance(COUNT_COLOURS(step)), luminance(page)))
            assert (lighter + 0.05) / (darker + 0.05) > 1.4, (step, page)


def test_neutral_colours_follow_the_page_and_nothing_is_loaded() -> None:
    html = str(embed(draw, ""))
    assert {"ink", "soft", "line", "accent"} <= set(re.findall(r"var\(--(\w+)\)", html))
    assert not {INK, GREY, BLUE.lower()} & set(html.replace(";", " ").replace('"', " ").split())
    assert "script" not in {element.tag.split("}")[-1] for drawing in drawings(html) for element in drawing.iter()}


def test_text_is_at_least_11_pixels() -> None:
    for drawing in drawings(embed(draw, "")):
        sizes = [float(element.attrib["style"].split("px")[0].split()[-1]) for element in drawing.iter()
                 if element.tag.endswith("text")]  # fmt: skip
        assert min(sizes) >= 11


def test_the_same_figure_gives_the_same_bytes_and_leaves_the_settings_alone() -> None:
    before = dict(rcParams)
    assert embed(draw, "a") == embed(draw, "a")
    assert png_bytes(draw) == png_bytes(draw)
    assert png_bytes(draw).startswith(b"\x89PNG")
    assert dict(rcParams) == before


@pytest.mark.parametrize("number", [1, 3, 4])
def test_panels_are_below_each_other_on_narrow_screens(number: int) -> None:
    for width in (900, 358):
        figure, axes = panels(width, number, 100)
        assert len(axes) == number
        corners = np.array([axis.get_position().p0 for axis in axes])
        assert len(np.unique(corners[:, 0].round(3))) == (1 if is_narrow(width) else min(number, 3))
        assert figure.get_size_inches()[0] * 72 == width
