import numpy as np
import pytest

from galaxy_batch.report.projections import Lambert, Mollweide, Projection, projection_for
from galaxy_batch.sky.healpix import pixels_at
from tests.support.skies import even_positions

PROJECTIONS = [
    Mollweide(), Mollweide(0.0), Lambert(0.0, 0.0, 20.0), Lambert(200.0, 90.0, 5.0), Lambert(359.9, -89.5, 3.0),
    Lambert(10.0, 60.0, 34.0),
]  # fmt: skip


def plane(projection: Projection, side: int = 801) -> tuple[np.ndarray, np.ndarray]:
    x = ((np.arange(side) + 0.5) / side - 0.5) * projection.width
    y = ((np.arange(side) + 0.5) / side - 0.5) * projection.height
    across, up = np.meshgrid(x, y)
    return across.ravel(), up.ravel()


@pytest.mark.parametrize("projection", PROJECTIONS, ids=str)
def test_there_and_back(projection: Projection) -> None:
    x, y = plane(projection, 101)
    ra, dec = projection.inverse(x, y)
    inside = ~np.isnan(ra)
    assert 0.7 < inside.mean() < 0.85  # an ellipse in its box: π/4
    assert ((ra[inside] >= 0) & (ra[inside] < 360) & (np.abs(dec[inside]) <= 90)).all()
    again = projection.forward(ra[inside], dec[inside])
    assert np.allclose(again[0], x[inside], atol=2e-3 * projection.width)
    assert np.allclose(again[1], y[inside], atol=2e-3 * projection.width)


@pytest.mark.parametrize("projection", PROJECTIONS, ids=str)
def test_areas_are_true(projection: Projection) -> None:
    """Equal HEALPix cells take equal parts of the plane, and as much of it as they have of the unit sphere."""
    order = 1 if isinstance(projection, Mollweide) else 6
    x, y = plane(projection)
    ra, dec = projection.inverse(x, y)
    inside = ~np.isnan(ra)
    cells, counts = np.unique(pixels_at(ra[inside], dec[inside], order), return_counts=True)
    rim = np.hypot(2 * x / projection.width, 2 * y / projection.height) > 1 - 12 / 801
    cut = set() if order == 1 else set(pixels_at(ra[rim & inside], dec[rim & inside], order).tolist())
    whole = np.array([cell not in cut for cell in cells.tolist()])
    area = counts[whole] * projection.width * projection.height / 801**2
    assert len(area) >= 4
    assert area.mean() == pytest.approx(4 * np.pi / (12 * 4**order), rel=0.01)
    assert area.std() < (0.01 if order == 1 else 0.12) * area.mean()


def test_poles_and_the_seam() -> None:
    for projection in (Mollweide(0.0), Mollweide(180.0)):
        x, y = projection.forward(np.array([0.0, 123.0]), np.array([90.0, -90.0]))
        assert np.allclose(x, 0, atol=1e-3)
        assert np.allclose(y, [np.sqrt(2), -np.sqrt(2)])
    left, right = Mollweide(180.0).forward(np.array([0.001, 359.999]), np.zeros(2))[0]
    assert (left, right) == pytest.approx((-2 * np.sqrt(2), 2 * np.sqrt(2)), abs=1e-3)
    x, y = Lambert(0.0, 0.0, 20.0).forward(np.array([359.0, 1.0, 180.0]), np.zeros(3))
    assert x[0] == pytest.approx(-x[1])
    assert np.isnan(x[2])


@pytest.mark.parametrize("projection", PROJECTIONS, ids=str)
def test_grid_lines_are_named_where_they_can_be_seen(projection: Projection) -> None:
    lines = projection.grid()
    assert 5 <= len(lines) <= 25
    assert len({line.words for line in lines}) >= len(lines) - 1  # 0° may be said of both
    assert all(np.isfinite([line.x[line.named_at], line.y[line.named_at]]).all() for line in lines)


def cells_at(ra: list[float], dec: list[float], order: int = 9) -> np.ndarray:
    return np.bincount(pixels_at(np.array(ra), np.array(dec), order), minlength=12 * 4**order).astype(np.int32)


def test_a_patch_is_drawn_as_one_wherever_it_is() -> None:
    for ra, dec in ((0.0, 0.0), (359.9, 45.0), (77.0, 90.0), (10.0, -90.0)):
        found = projection_for(cells_at([ra, ra + 0.5, ra - 0.5], [dec, dec, min(dec, 90)]))
        assert isinstance(found, Lambert)
        assert 0.4 < found.radius_deg < 2 or abs(dec) == 90
        assert not np.isnan(found.forward(np.array([ra + 0.5, ra - 0.5]), np.array([dec, dec]))[0]).any()
    assert isinstance(projection_for(cells_at([10, 190], [0, 0])), Mollweide)


def test_the_whole_sky_is_cut_where_there_are_fewer_galaxies() -> None:
    assert projection_for(cells_at([170, 190, 180, 90], [0, 10, 60, 0])) == Mollweide(180.0)
    assert projection_for(cells_at([350, 10, 5, 90, 200], [0, 10, 60, 0, 0])) == Mollweide(0.0)
    assert projection_for(np.zeros(12 * 4**9, np.int32)) == Mollweide(180.0)
    ra, dec = even_positions(5000, np.random.default_rng(0))
    assert isinstance(projection_for(cells_at(ra.tolist(), dec.tolist())), Mollweide)
