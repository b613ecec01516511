"""Cutouts from tiles: against Cutout2D and reproject, flux, orientation, distortions, poles, holes and edges."""

import functools
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.wcs import WCS, Sip
from reproject import reproject_exact, reproject_interp
from scipy.ndimage import gaussian_filter

from galaxy_batch.config import RgbConfig
from galaxy_batch.cutouts.fits import decode_fits
from galaxy_batch.tiles import cut
from galaxy_batch.tiles.cut import Cut, cut_band, cut_bands
from galaxy_batch.tiles.tile_image import TileImage, open_tile
from tests.support.s3_server import S3
from tests.support.tiles import celestial_wcs, legacy_brick, save_tile, sdss_frame, sky_of

SHAPE = (260, 300)
MAX_BYTES = 1 << 30
PIXEL = 0.262  # arcsec
NOISE = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)


def stars(shape: tuple[int, int], positions: list[tuple[float, float]], fwhm_px: float = 3.0) -> np.ndarray:
    """Gaussian stars of flux 1 at x, y."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    sigma = fwhm_px / 2.355
    images = [np.exp(-((x - a) ** 2 + (y - b) ** 2) / 2 / sigma**2) / (2 * np.pi * sigma**2) for a, b in positions]
    return np.sum(images, axis=0).astype(np.float32)


def centroid(pixels: np.ndarray) -> tuple[float, float]:
    """Column and row of a star, from the centre of the image."""
    middle = (pixels.shape[0] - 1) / 2
    rows, columns = np.mgrid[: pixels.shape[0], : pixels.shape[1]] - middle
    total = np.nansum(pixels)
    return float(np.nansum(pixels * columns) / total), float(np.nansum(pixels * rows) / total)


def cut_one(uri: str, ra: float, dec: float, side_arcsec: float, size_px: int, north_up: bool = True) -> Cut:
    with open_tile(uri, MAX_BYTES) as tile:
        return cut_band(tile, [ra], [dec], side_arcsec, size_px, north_up)


def north_up_wcs(ra: float, dec: float, scale_arcsec: float, size_px: int) -> WCS:
    return celestial_wcs((size_px, size_px), scale_arcsec, centre=(ra, dec))


@pytest.mark.parametrize(("size", "x", "y"), [(11, 100, 80), (10, 99.5, 79.5), (31, 5, 250), (64, 299.5, 0.5)])
def test_whole_pixels_are_those_of_cutout2d(tmp_path: Path, size: int, x: float, y: float) -> None:
    wcs = celestial_wcs(SHAPE)
    ra, dec = sky_of(wcs, x, y)
    result = cut_one(save_tile(tmp_path / "t.fits", NOISE, wcs), ra[0], dec[0], size * PIXEL, size, north_up=False)
    expected = Cutout2D(NOISE, (x, y), (size, size), mode="partial", fill_value=np.nan).data[::-1]
    assert np.array_equal(np.isnan(result.pixels[0]), np.isnan(expected))
    assert np.allclose(result.pixels[0], expected, atol=1e-4, equal_nan=True)
    assert result.empty_fraction[0] == np.isnan(expected).mean()
    assert result.area_ratio[0] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("scale", [0.262, 0.5, 1.3])
def test_shrunk_cutouts_are_those_of_reproject_exact(tmp_path: Path, rotation: float, scale: float) -> None:
    wcs = celestial_wcs(SHAPE, rotation_deg=rotation)
    ra, dec = sky_of(wcs, 141.3, 131.2)
    size = round(40 / scale)
    result = cut_one(save_tile(tmp_path / "t.fits", NOISE, wcs), ra[0], dec[0], size * scale, size)
    target = north_up_wcs(ra[0], dec[0], scale, size)
    expected, _ = reproject_exact((NOISE, wcs), target, shape_out=(size, size))
    brightness = result.pixels[0] / result.area_ratio[0]
    assert np.abs(brightness - expected[::-1]).max() < 1e-3 * NOISE.std()
    assert result.area_ratio[0] == pytest.approx((scale / PIXEL) ** 2, rel=1e-4)


@pytest.mark.parametrize("rotation", [0, 33, 180])
@pytest.mark.parametrize("scale", [0.09, 0.2])
def test_enlarged_cutouts_are_those_of_linear_interpolation(tmp_path: Path, rotation: float, scale: float) -> None:
    wcs = celestial_wcs(SHAPE, rotation_deg=rotation)
    ra, dec = sky_of(wcs, 141.3, 131.2)
    size = round(30 / scale)
    result = cut_one(save_tile(tmp_path / "t.fits", NOISE, wcs), ra[0], dec[0], size * scale, size)
    target = north_up_wcs(ra[0], dec[0], scale, size)
    expected, _ = reproject_interp((NOISE, wcs), target, shape_out=(size, size), order="bilinear")
    assert np.abs(result.pixels[0] / result.area_ratio[0] - expected[::-1]).max() < 1e-3 * NOISE.std()


@pytest.mark.parametrize(("scale", "tolerance"), [(0.3, 0.03), (0.5, 0.03), (0.7, 0.03), (1.3, 0.05), (3.1, 0.06)])
def test_rotated_and_shrunk_cutouts_are_near_reproject_exact(tmp_path: Path, scale: float, tolerance: float) -> None:
    """Of an image with the sharpness of real ones: a PSF with a full width of 3 pixels. Relative to its contrast."""
    image = gaussian_filter(NOISE, 1.3)
    wcs = celestial_wcs(SHAPE, rotation_deg=33)
    ra, dec = sky_of(wcs, 141.3, 131.2)
    size = round(40 / scale)
    result = cut_one(save_tile(tmp_path / "t.fits", image, wcs), ra[0], dec[0], size * scale, size)
    target = north_up_wcs(ra[0], dec[0], scale, size)
    expected, _ = reproject_exact((image, wcs), target, shape_out=(size, size))
    difference = result.pixels[0] / result.area_ratio[0] - expected[::-1]
    assert np.sqrt(np.mean(difference**2)) < tolerance * expected.std()


@pytest.mark.parametrize("band", "gri")
@pytest.mark.parametrize(("size", "scale", "tolerance"), [(160, 0.7, 0.001), (110, 1.5, 0.1), (40, 4.0, 0.04)])
def test_real_galaxies_are_those_of_reproject(sky: Path, band: str, size: int, scale: float, tolerance: float) -> None:
    """NGC 6977 in a real SDSS frame, 82 degrees from north, whose stars are hardly wider than its pixels of 1.2"."""
    uri = str(sky / "fits_ngc6976" / f"reprojected_sdss_{band}.fits.bz2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image, header = fits.getdata(uri, header=True)
        wcs = WCS(header)
    ra, dec = sky_of(wcs, 366, 248)
    (pixels,) = cut_one(uri, ra[0], dec[0], size * scale, size).pixels
    reproject = reproject_exact if scale > 1.2 else functools.partial(reproject_interp, order="bilinear")
    expected, _ = reproject((image, wcs), north_up_wcs(ra[0], dec[0], scale, size), shape_out=(size, size))
    expected = expected[::-1] * (scale / 1.18769193) ** 2
    assert np.isfinite(expected).all()
    assert np.sqrt(np.mean((pixels - expected) ** 2)) < tolerance * expected.std()
    assert pixels.sum() == pytest.approx(expected.sum(), rel=5e-3)


@pytest.mark.parametrize("north_up", [False, True])
@pytest.mark.parametrize("rotation", [0, 20, 90])
@pytest.mark.parametrize("size", [25, 64, 150, 424])
def test_the_flux_of_a_source_is_conserved_and_it_is_in_the_centre(
    tmp_path: Path, size: int, rotation: float, north_up: bool
) -> None:
    wcs = celestial_wcs(SHAPE, rotation_deg=rotation)
    ra, dec = sky_of(wcs, 150.37, 120.81)
    uri = save_tile(tmp_path / "t.fits", stars(SHAPE, [(150.37, 120.81)]), wcs)
    (pixels,) = cut_one(uri, ra[0], dec[0], 60 * PIXEL, size, north_up).pixels
    assert pixels.sum() == pytest.approx(1, abs=2e-3)
    assert np.abs(centroid(pixels)).max() < 0.03 * max(1, size / 60)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 147])
def test_north_is_up_and_east_left_whatever_the_tile(tmp_path: Path, rotation: float, mirrored: bool) -> None:
    wcs = celestial_wcs(SHAPE, rotation_deg=rotation, mirrored=mirrored)
    ra, dec = sky_of(wcs, 150, 130)
    north = wcs.all_world2pix(ra, dec + 5 * PIXEL / 3600, 0)
    east = wcs.all_world2pix(ra + 8 * PIXEL / 3600 / np.cos(np.radians(dec)), dec, 0)
    for (x, y), expected in ((north, (0, -5)), (east, (-8, 0))):
        uri = save_tile(tmp_path / f"{expected[0]}.fits", stars(SHAPE, [(x[0], y[0])]), wcs)
        (pixels,) = cut_one(uri, ra[0], dec[0], 41 * PIXEL, 41).pixels
        assert centroid(pixels) == pytest.approx(expected, abs=0.05)


def test_the_axes_of_the_tile_are_kept_as_in_fits_cutouts(tmp_path: Path) -> None:
    """The same orientation as a FITS cutout has that is decoded: the highest row on top."""
    shape = (41, 41)
    image = stars(shape, [(30, 28)])
    wcs = celestial_wcs(shape, rotation_deg=70, mirrored=True)
    ra, dec = sky_of(wcs, 20, 20)
    (pixels,) = cut_one(save_tile(tmp_path / "t.fits", image, wcs), ra[0], dec[0], 41 * PIXEL, 41, False).pixels
    fits.PrimaryHDU(np.stack([image] * 3)).writeto(tmp_path / "cutout.fits")
    decoded = decode_fits((tmp_path / "cutout.fits").read_bytes(), 10_000, RgbConfig())
    assert np.unravel_index(np.argmax(pixels), shape) == np.unravel_index(np.argmax(decoded[0]), shape) == (12, 30)


@pytest.mark.parametrize(
    "centre", [(0.0, 0.0), (359.9999, -40.0), (123.0, 89.999), (0.0, 90.0), (77.0, -89.9995), (10.0, -90.0)], ids=str
)
def test_ra_0_and_poles_are_no_special_cases(tmp_path: Path, centre: tuple[float, float]) -> None:
    wcs = celestial_wcs(SHAPE, centre=centre)
    positions = [(30.2, 40.7), (150.1, 130.3), (270.4, 210.6), (149.5, 30.0)]
    uri = save_tile(tmp_path / "t.fits", stars(SHAPE, positions), wcs)
    ra, dec = sky_of(wcs, *np.array(positions).T)
    for shift in (-360, 0, 360):
        with open_tile(uri, MAX_BYTES) as tile:
            result = cut_band(tile, ra + shift, dec, 41 * PIXEL, 41, north_up=True)
        for pixels in result.pixels:
            assert pixels.sum() == pytest.approx(1, abs=2e-3)
            assert np.abs(centroid(pixels)).max() < 0.02


def sip_wcs() -> WCS:
    """A camera whose scale changes by 3% over the image."""
    wcs = celestial_wcs(SHAPE, rotation_deg=12)
    wcs.wcs.ctype = "RA---TAN-SIP", "DEC--TAN-SIP"
    a, b = np.zeros((4, 4)), np.zeros((4, 4))
    a[2, 0], a[1, 1], b[0, 2], b[3, 0] = 6e-5, -3e-5, 4e-5, 1e-8
    wcs.sip = Sip(a, b, None, None, wcs.wcs.crpix)
    return wcs


def tpv_wcs() -> WCS:
    """As DECam's images: polynomials in the plane of projection."""
    header = celestial_wcs(SHAPE, scale_arcsec=2.0).to_header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TPV", "DEC--TPV"
    header["PV1_1"], header["PV1_7"], header["PV2_1"], header["PV2_5"] = 1.0, 0.05, 1.0, 0.1
    return WCS(header)


def galactic_wcs() -> WCS:
    wcs = celestial_wcs(SHAPE)
    wcs.wcs.ctype = "GLON-TAN", "GLAT-TAN"
    return wcs


@pytest.mark.parametrize("make", [celestial_wcs, sip_wcs, tpv_wcs], ids=["TAN", "SIP", "TPV"])
@pytest.mark.parametrize("north_up", [False, True])
def test_the_affine_map_is_near_the_wcs(tmp_path: Path, make: object, north_up: bool) -> None:
    """Cut from images whose values are their own x and y, a cutout says which pixel each of its pixels shows."""
    wcs = make(SHAPE) if make is celestial_wcs else make()
    scale = float(np.sqrt(np.abs(np.linalg.det(wcs.pixel_scale_matrix)))) * 3600
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(np.float32)
    size, ra, dec = 61, *sky_of(wcs, [60, 150, 235], [60, 130, 200])
    shown = []
    for number, image in enumerate((x, y)):
        with open_tile(save_tile(tmp_path / f"{number}.fits", image, wcs), MAX_BYTES) as tile:
            result = cut_band(tile, ra, dec, size * scale, size, north_up)
            shown.append(result.pixels / result.area_ratio[:, None, None])
    for number in range(3):
        if north_up:
            target = north_up_wcs(ra[number], dec[number], scale, size)
            true = wcs.all_world2pix(*target.all_pix2world(*np.mgrid[:size, :size][::-1], 0), 0)
            true = [values[::-1] for values in true]
            offsets = np.hypot(shown[0][number] - true[0], shown[1][number] - true[1])
            assert offsets.max() < (0.001 if make is celestial_wcs else 0.15)
        middle = size // 2
        expected = wcs.all_world2pix(ra[number], dec[number], 0)
        assert [float(s[number][middle, middle]) for s in shown] == pytest.approx(np.ravel(expected), abs=0.01)


def test_a_brick_is_affine_to_a_twentieth_of_a_pixel_over_two_arcminutes() -> None:
    """The whole brick of the Legacy Surveys: 0.26 degrees wide, at high declination."""
    shape = (3600, 3600)
    wcs = celestial_wcs(shape, centre=(200.0, 75.0))

    class Tile:
        pass

    tile = Tile()
    tile.wcs, tile.shape, tile.pixel_scale_arcsec, tile.block_shape = wcs, shape, PIXEL, (100, 100)  # type: ignore[attr-defined]
    ra, dec = sky_of(wcs, [230, 1800, 3370], [3370, 230, 230])
    grid = cut._Grid(tile, ra, dec, np.full(3, 120.0), 424, True)  # type: ignore[arg-type]
    for number in range(3):
        target = north_up_wcs(ra[number], dec[number], 120 / 424, 424)
        corners = np.array([[0, 0], [423, 0], [0, 423], [423, 423], [211, 0]], float)
        true = wcs.all_world2pix(target.all_pix2world(corners, 0), 0)
        steps = np.array([corners[:, 0] - 211.5, 211.5 - corners[:, 1]])
        assert np.abs(grid.centres[number] + (grid.maps[number] @ steps).T - true).max() < 0.05


def test_other_frames_are_converted(tmp_path: Path) -> None:
    wcs = galactic_wcs()
    lon, lat = sky_of(wcs, 150.2, 130.1)
    position = SkyCoord(lon, lat, unit="deg", frame="galactic").icrs
    uri = save_tile(tmp_path / "t.fits", stars(SHAPE, [(150.2, 130.1)]), wcs)
    (pixels,) = cut_one(uri, position.ra.deg[0], position.dec.deg[0], 41 * PIXEL, 41).pixels
    assert np.abs(centroid(pixels)).max() < 0.02


def test_objects_outside_are_empty_and_spoil_no_others(tmp_path: Path) -> None:
    wcs = celestial_wcs(SHAPE)
    uri = save_tile(tmp_path / "t.fits", NOISE, wcs)
    ra, dec = sky_of(wcs, [150, -500, 150, 150, 0], [130, 130, 130, 130, 130])
    ra = np.append(ra, [330.0, 330.0, np.nan])  # the other side of the sky; nowhere
    dec = np.append(dec, [-2.0, 2.0, 2.0])
    sides = np.array([10.0, 10, np.nan, 0, 10, 10, 10, 10])
    for north_up in (False, True):
        with open_tile(uri, MAX_BYTES) as tile:
            result = cut_band(tile, ra, dec, sides, 38, north_up)
            alone = cut_band(tile, ra[:1], dec[:1], 10.0, 38, north_up)
        assert result.empty_fraction[[0, 1, 2, 3, 5, 6, 7]].tolist() == [0, 1, 1, 1, 1, 1, 1]
        assert result.empty_fraction[4] == pytest.approx(0.5, abs=0.02)
        assert np.isnan(result.pixels).mean(axis=(1, 2)) == pytest.approx(result.empty_fraction)
        assert np.allclose(result.pixels[0], alone.pixels[0], atol=1e-6)


@pytest.mark.parametrize("rotation", [0, 30])
@pytest.mark.parametrize("scale", [0.1, 0.262, 0.6])
def test_holes_stay_holes_and_do_not_grow(tmp_path: Path, rotation: float, scale: float) -> None:
    image = np.ones(SHAPE, np.float32)
    image[100:140, 120:160] = np.nan
    image[200, 200] = np.inf
    wcs = celestial_wcs(SHAPE, rotation_deg=rotation)
    ra, dec = sky_of(wcs, 139.5, 119.5)
    result = cut_one(save_tile(tmp_path / "t.fits", image, wcs), ra[0], dec[0], 80 * PIXEL, round(80 * PIXEL / scale))
    brightness = result.pixels[0] / result.area_ratio[0]
    assert np.nanmax(np.abs(brightness - 1)) < 1e-4  # the values beside a hole are those of the sky
    assert result.empty_fraction[0] == pytest.approx(0.25, abs=0.02)
    assert np.isnan(brightness[brightness.shape[0] // 2, brightness.shape[1] // 2])


def note_reads(tile: TileImage, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int, int]]:
    """The parts that are read from the file, from now on."""
    read = []
    stored = tile._stored

    def noted(*box: Any) -> np.ndarray:
        read.append(box[:4])
        return stored(*box)

    monkeypatch.setattr(tile, "_stored", noted)
    return read


def test_a_large_tile_is_read_once_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wcs = celestial_wcs(SHAPE, rotation_deg=3)
    uri = save_tile(tmp_path / "t.fits", NOISE, wcs)
    rng = np.random.default_rng(0)
    ra, dec = sky_of(wcs, rng.uniform(0, 299, 80), rng.uniform(0, 259, 80))
    sides = rng.uniform(3, 9, 80)
    with open_tile(uri, MAX_BYTES) as tile:
        expected = cut_band(tile, ra, dec, sides, 20, north_up=False)
    monkeypatch.setattr(cut, "_HELD_BYTES", 60 * 4 * SHAPE[1])
    monkeypatch.setattr(cut, "_CACHED_PIXELS", 10_000)
    with open_tile(uri, MAX_BYTES) as tile:
        read = note_reads(tile, monkeypatch)
        batches = list(cut_bands([tile], ra, dec, sides, 20, False, batch=8))
    assert sorted(np.concatenate([indices for indices, _ in batches])) == list(range(80))
    for indices, (result,) in batches:
        assert np.array_equal(result.pixels, expected.pixels[indices], equal_nan=True)
        assert np.array_equal(result.empty_fraction, expected.empty_fraction[indices])
    assert max(y1 - y0 for y0, y1, _, _ in read) < 0.5 * SHAPE[0]
    assert sum(y1 - y0 for y0, y1, _, _ in read) < 2.5 * SHAPE[0]


def test_few_objects_on_a_tile_are_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(1).normal(0, 0.02, (600, 600)).astype(np.float32)
    wcs = celestial_wcs(image.shape)
    ra, dec = sky_of(wcs, [150, 450], [150, 450])
    for uri in (save_tile(tmp_path / "t.fits", image, wcs), legacy_brick(tmp_path, image, wcs)):
        with open_tile(uri, MAX_BYTES) as tile:
            read = note_reads(tile, monkeypatch)
            cut_band(tile, ra, dec, 20 * PIXEL, 20, False)
        assert [(y1 - y0, x1 - x0) for y0, y1, x0, x1 in read] == [(27, 27)] * 2


def test_bands_of_different_scale_and_orientation_show_the_same(tmp_path: Path) -> None:
    """One star, seen by three cameras: equal fluxes, equal places."""
    tiles = []
    for number, (scale, rotation, shape) in enumerate(
        [(0.262, 0, SHAPE), (0.396, 82, (200, 240)), (0.2, 180, (400, 401))]
    ):
        wcs = celestial_wcs(shape, scale, rotation)
        x, y = wcs.all_world2pix(150.001, 2.001, 0)
        tiles.append(save_tile(tmp_path / f"{number}.fits", stars(shape, [(x, y)], 1.2 / scale), wcs))
    with open_tile(tiles[0], MAX_BYTES) as a, open_tile(tiles[1], MAX_BYTES) as b, open_tile(tiles[2], MAX_BYTES) as c:
        ((indices, cuts),) = cut_bands([a, b, c], [150.0], [2.0], 20.0, 100, True)
    assert indices.tolist() == [0]
    for result in cuts:
        assert result.pixels.sum() == pytest.approx(1, abs=2e-3)
        assert centroid(result.pixels[0]) == pytest.approx((-0.001 * 3600 / 0.2, -0.001 * 3600 / 0.2), abs=0.1)
        assert np.abs(result.pixels[0] - cuts[0].pixels[0]).max() < 0.1 * cuts[0].pixels.max()


def test_a_frame_of_sdss_and_a_brick_of_the_legacy_surveys(tmp_path: Path) -> None:
    """Through their own formats, the same star."""
    frame_wcs, brick_wcs = celestial_wcs(SHAPE, 0.396, rotation_deg=82), celestial_wcs(SHAPE)
    x, y = frame_wcs.all_world2pix(150.002, 2.001, 0)
    frame = sdss_frame(tmp_path, stars(SHAPE, [(x, y)]), frame_wcs)
    x, y = brick_wcs.all_world2pix(150.002, 2.001, 0)
    brick = legacy_brick(tmp_path, stars(SHAPE, [(x, y)], 4.5), brick_wcs)
    for uri in (frame, brick):
        (pixels,) = cut_one(uri, 150.002, 2.001, 16.0, 128).pixels
        assert pixels.sum() == pytest.approx(1, abs=5e-3)
        assert np.abs(centroid(pixels)).max() < 0.05


def test_an_object_is_the_same_whatever_it_is_cut_with(tmp_path: Path) -> None:
    """To the last bit: beside holes, edges and objects of other sizes."""
    image = NOISE.copy()
    image[100:110, 100:110] = np.nan
    wcs = celestial_wcs(SHAPE)
    uri = save_tile(tmp_path / "t.fits", image, wcs)
    rng = np.random.default_rng(4)
    ra, dec = sky_of(wcs, rng.uniform(-5, 305, 40), rng.uniform(-5, 265, 40))
    sides = rng.uniform(2, 20, 40)
    with open_tile(uri, MAX_BYTES) as tile:
        together = cut_band(tile, ra, dec, sides, 30, north_up=True)
        for number in range(40):
            alone = cut_band(tile, ra[number], dec[number], sides[number], 30, north_up=True)
            assert np.array_equal(alone.pixels[0], together.pixels[number], equal_nan=True)
            assert alone.empty_fraction[0] == together.empty_fraction[number]


def test_memory_of_rows_is_used_again(tmp_path: Path) -> None:
    """Of the tile before; what was cut out of that one does not change."""
    wcs = celestial_wcs(SHAPE)
    cuts = []
    for number in range(3):
        uri = save_tile(tmp_path / f"{number}.fits", NOISE + number, wcs)
        with open_tile(uri, MAX_BYTES) as tile:
            cuts.append(cut_band(tile, *sky_of(wcs, [100, 200], [130, 140]), 30 * PIXEL, 30, north_up=False))
    for number in (1, 2):
        assert np.allclose(cuts[number].pixels, cuts[0].pixels + number, atol=1e-4)


def peak_bytes(tile: TileImage, ra: np.ndarray, dec: np.ndarray) -> int:
    """Largest memory while all objects are cut, of which none is kept."""
    tracemalloc.start()
    for _ in cut_bands([tile], ra, dec, 40 * PIXEL, 64, False):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_number_of_objects(tmp_path: Path) -> None:
    wcs = celestial_wcs(SHAPE)
    rng = np.random.default_rng(0)
    ra, dec = sky_of(wcs, rng.uniform(0, 299, 3000), rng.uniform(0, 259, 3000))
    with open_tile(save_tile(tmp_path / "t.fits", NOISE, wcs), MAX_BYTES) as tile:
        few, many = peak_bytes(tile, ra[:300], dec[:300]), peak_bytes(tile, ra, dec)
    assert many - few < 0.1 * 2700 * 64 * 64 * 4  # a tenth of the cutouts: positions and boxes


def test_a_brick_with_many_objects_is_one_request(s3: S3, tmp_path: Path) -> None:
    """After that of its headers."""
    image = np.random.default_rng(1).normal(0, 0.02, (1000, 1000)).astype(np.float32)
    wcs = celestial_wcs(image.shape)
    path = Path(legacy_brick(tmp_path, image, wcs))
    assert path.stat().st_size > 3 << 18
    rng = np.random.default_rng(0)
    ra, dec = sky_of(wcs, rng.uniform(100, 900, 100), rng.uniform(100, 900, 100))
    with open_tile(s3.put("brick.fits.fz", path.read_bytes()), MAX_BYTES) as tile:
        result = cut_band(tile, ra, dec, 80 * PIXEL, 80, north_up=False)
    assert result.empty_fraction.max() == 0
    assert len(s3.proxy.requests) == 2
