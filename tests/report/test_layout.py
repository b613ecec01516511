"""All pages of figures in a browser: on phones, at the widths where layouts change, and on wide screens."""

from pathlib import Path

import numpy as np
import pytest

from galaxy_batch.compare.compare import compare_catalogs
from galaxy_batch.compare.config import CompareConfig
from galaxy_batch.compare.page import write_comparison
from galaxy_batch.compare.series import measure_series
from galaxy_batch.compare.series_page import write_series
from galaxy_batch.config import ManifestConfig, ReportConfig
from galaxy_batch.release_page.page import write_release_page
from galaxy_batch.similar.config import SimilarConfig
from galaxy_batch.similar.similar import find_similar
from tests.support.browser import CHROMIUM, layouts
from tests.support.row_changes import flipped, with_magnitudes
from tests.support.series import publish_series
from tests.support.skies import publish_rows, sky_rows, with_embeddings
from tests.support.training import run_of, threshold_result
from train.config import SweepConfig
from train.report.report import write_report
from train.sweep import _page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs an installed Chromium")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pages")
    rows = with_embeddings(with_magnitudes(sky_rows(600, seed=8, without_position=0.02)))
    old = publish_rows(folder / "old", rows)
    new = publish_rows(folder / "new", flipped(rows, np.arange(600) % 10 == 0))
    write_release_page(str(old), str(folder / "release"), ReportConfig(cutouts=2))
    compared = CompareConfig(
        output_uri=str(folder / "comparison"), old_uri=str(old), new_uri=str(new), bin_columns=("r",),
        min_cell_rows=10, examples=3,
    )  # fmt: skip
    write_comparison(compare_catalogs(compared), compared)
    releases = publish_series(folder / "releases", count=300)
    series = measure_series(CompareConfig(output_uri=str(folder / "series"), series_uri=str(releases)))
    write_series(series, str(folder / "series"))
    write_report(run_of(), str(folder / "training"), grad_cam_limit=12)
    results = [threshold_result(0.5 + n / 10, 900 - 200 * n, 0.9) for n in range(3)]
    sweep = SweepConfig(str(folder / "sweep"), ManifestConfig(str(old), image_column="image"))
    (folder / "sweep").mkdir()
    (folder / "sweep" / "index.html").write_text(_page(sweep, results, results[1], "Reason."))
    asked = tuple(map(str, rows.filter(rows["predicted_class"].is_valid())["object_id"].to_pylist()[:2]))
    find_similar(SimilarConfig(str(old), asked, k=5, report_uri=str(folder / "similar")))
    names = ("release", "comparison", "series", "training", "sweep", "similar")
    return [folder / name / "index.html" for name in names]


@pytest.mark.parametrize("width_px", [320, 390, 801, 1280])
def test_nothing_scrolls_sideways_and_text_is_large_and_whole(pages: list[Path], width_px: int, tmp_path: Path) -> None:
    for page, layout in zip(pages, layouts(pages, width_px, tmp_path), strict=True):
        assert layout["too_wide"] == [], page.parent.name
        assert layout["broken_words"] == [], page.parent.name
        assert layout["smallest_text"][0] >= 11, (page.parent.name, layout["smallest_text"])


def test_pages_are_dark_where_the_browser_is(pages: list[Path], tmp_path: Path) -> None:
    light, dark = (layouts(pages[:1], 390, tmp_path, dark)[0]["ink"] for dark in (False, True))
    assert light == "rgb(31, 35, 40)"
    assert dark == "rgb(228, 232, 236)"
