"""Tiles of all formats: the same pixels as astropy reads, by the bytes that are needed, and a status for bad files."""

import bz2
import gzip
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from galaxy_batch.rows import Status, UnusableCutout
from galaxy_batch.storage import retries
from galaxy_batch.tiles.tile_image import open_tile, read_header
from tests.support.s3_server import S3
from tests.support.tiles import SDSS_SCALE_ARCSEC, celestial_wcs, legacy_brick, save_tile, sdss_frame

SHAPE = (350, 420)
PIXELS = np.random.default_rng(5).normal(0, 0.02, SHAPE).astype(np.float32)
TAN = celestial_wcs(SHAPE)
MAX_BYTES = 10_000_000

Writer = Callable[[Path], str]


def plain(folder: Path) -> str:
    return save_tile(folder / "plain.fits", PIXELS, TAN)


def double(folder: Path) -> str:
    return save_tile(folder / "double.fits", PIXELS.astype(np.float64), TAN)


def integers(folder: Path) -> str:
    """BSCALE, BZERO and BLANK."""
    stored = np.round(PIXELS * 1e4).astype(np.int16)
    stored[100:110, 50] = -32768
    uri = save_tile(folder / "integers.fits", stored, TAN)
    with fits.open(uri, do_not_scale_image_data=True) as hdus:
        header = hdus[0].header
        header["BSCALE"], header["BZERO"], header["BLANK"] = 1e-4, 0.5, -32768
        content = header.tostring().encode() + stored.astype(">i2").tobytes()
    Path(uri).write_bytes(content + b"\0" * (-len(content) % 2880))
    return uri


def unsigned(folder: Path) -> str:
    return save_tile(folder / "unsigned.fits", (PIXELS * 1e4 + 40000).astype(np.uint16), TAN)


def extension(folder: Path) -> str:
    """After a table and an image with one axis, before its mask."""
    header = TAN.to_header()
    vector, mask = fits.ImageHDU(np.ones(9, np.float32)), fits.ImageHDU(np.ones(SHAPE, np.int32), header)
    table = fits.BinTableHDU.from_columns([fits.Column("X", "E", array=np.zeros(4))])
    fits.HDUList([fits.PrimaryHDU(), table, vector, fits.ImageHDU(PIXELS, header, "SCI"), mask]).writeto(
        folder / "e.fits"
    )
    return str(folder / "e.fits")


def third_axis(folder: Path) -> str:
    return save_tile(folder / "third.fits", PIXELS[None], TAN)


def gzipped(folder: Path) -> str:
    path = folder / "tile.fits.gz"
    path.write_bytes(gzip.compress(Path(plain(folder)).read_bytes()))
    return str(path)


def two_streams(folder: Path) -> str:
    path, content = folder / "tile.fits.bz2", Path(plain(folder)).read_bytes()
    path.write_bytes(bz2.compress(content[:100_000]) + bz2.compress(content[100_000:]))
    return str(path)


def frame(folder: Path) -> str:
    return sdss_frame(folder, PIXELS, celestial_wcs(SHAPE, SDSS_SCALE_ARCSEC, rotation_deg=82))


def brick(folder: Path) -> str:
    return legacy_brick(folder, PIXELS, TAN)


def rows(folder: Path) -> str:
    """As fpack does by default: each row is a piece."""
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(PIXELS, TAN.to_header(), compression_type="RICE_1")]).writeto(
        folder / "rows.fits.fz"
    )
    return str(folder / "rows.fits.fz")


FORMATS = [
    plain,
    double,
    integers,
    unsigned,
    extension,
    third_axis,
    gzipped,
    two_streams,
    frame,
    brick,
    rows,
]


def in_full(uri: str) -> np.ndarray:
    """The image as astropy reads it."""
    with warnings.catch_warnings(), fits.open(uri) as hdus:
        warnings.simplefilter("ignore")
        image = next(hdu for hdu in hdus if hdu.is_image and hdu.data is not None and hdu.data.ndim > 1)
        return image.data.reshape(SHAPE).astype(np.float32)


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_parts_are_those_of_the_whole_image(tmp_path: Path, write: Writer) -> None:
    uri = write(tmp_path)
    expected = in_full(uri)
    scale = SDSS_SCALE_ARCSEC if write is frame else 0.262
    rtol = 1e-6 if write in (integers, unsigned) else 0  # astropy scales integers in float32
    with open_tile(uri, MAX_BYTES) as tile:
        assert tile.shape == SHAPE
        assert tile.pixel_scale_arcsec == pytest.approx(scale, rel=1e-6)
        for y0, y1, x0, x1 in ((0, *SHAPE[:1], 0, SHAPE[1]), (95, 205, 40, 60), (349, 350, 419, 420), (7, 7, 0, 9)):
            part = tile.read(y0, y1, x0, x1)
            assert part.dtype == np.float32
            assert part.dtype.isnative
            assert np.allclose(part, expected[y0:y1, x0:x1], rtol=rtol, atol=0, equal_nan=True)
        tile.hold(90, 210)
        for y0 in (95, 80):  # from what is held, and not
            assert np.allclose(tile.read(y0, 205, 40, 60), expected[y0:205, 40:60], rtol=rtol, atol=0, equal_nan=True)
        assert np.allclose(tile.read(95, 205, 40, 60), expected[95:205, 40:60], rtol=rtol, atol=0, equal_nan=True)
    header = read_header(uri)
    assert (header.shape, header.pixel_scale_arcsec) == (SHAPE, tile.pixel_scale_arcsec)
    assert header.wcs.wcs.crval == pytest.approx(list(tile.wcs.wcs.crval))
    assert "CTYPE1" in header.header


def test_missing_values_are_nan(tmp_path: Path) -> None:
    with open_tile(integers(tmp_path), MAX_BYTES) as tile:
        assert np.isnan(tile.read(100, 110, 50, 51)).all()
        assert not np.isnan(tile.read(110, 120, 50, 51)).any()


def test_only_the_needed_bytes_are_requested(s3: S3, tmp_path: Path) -> None:
    wide = np.random.default_rng(1).normal(0, 0.02, (1500, 1000)).astype(np.float32)
    wcs = celestial_wcs(wide.shape)
    files = [(save_tile(tmp_path / "p.fits", wide, wcs), 0.25), (legacy_brick(tmp_path, wide, wcs), 0.6)]
    for file, most in files:
        content = Path(file).read_bytes()
        uri = s3.put(Path(file).name, content)
        s3.proxy.forget()
        with open_tile(uri, MAX_BYTES) as tile:
            part = tile.read(700, 800, 300, 400)
        assert part.shape == (100, 100)
        asked = s3.proxy.requests
        assert {request.method for request in asked} == {"GET"}
        assert len(asked) <= 3
        spans = [request.range.removeprefix("bytes=").split("-") for request in asked if request.range]
        assert len(spans) == len(asked)
        assert sum(int(b) - int(a) + 1 for a, b in spans) < most * len(content)


def test_rows_that_are_held_are_requested_once(s3: S3, tmp_path: Path) -> None:
    uri = s3.put("plain.fits", Path(plain(tmp_path)).read_bytes())
    with open_tile(uri, MAX_BYTES) as tile:
        tile.hold(0, SHAPE[0])
        s3.proxy.forget()
        assert np.array_equal(tile.read(100, 200, 0, 9), PIXELS[100:200, :9])
        tile.hold(50, 100)
        assert s3.proxy.requests == []


def test_the_header_of_a_compressed_frame_is_read_from_its_first_bytes(s3: S3, tmp_path: Path) -> None:
    noise = np.random.default_rng(2).normal(size=(1489, 1024))
    content = Path(sdss_frame(tmp_path, noise, celestial_wcs(noise.shape, SDSS_SCALE_ARCSEC))).read_bytes()
    uri = s3.put("frame.fits.bz2", content)
    assert read_header(uri).shape == noise.shape
    ends = [int(request.range.rpartition("-")[2]) for request in s3.proxy.requests if request.range]
    assert max(ends) < 0.5 * len(content)


def cut_short(folder: Path, write: Writer, share: float = 0.4) -> str:
    path = Path(write(folder))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return str(path)


def without_wcs(folder: Path) -> str:
    fits.PrimaryHDU(PIXELS).writeto(folder / "w.fits")
    return str(folder / "w.fits")


def singular_wcs(folder: Path) -> str:
    header = TAN.to_header()
    header["CDELT1"] = 0.0
    fits.PrimaryHDU(PIXELS, header).writeto(folder / "w.fits")
    return str(folder / "w.fits")


def spectral_wcs(folder: Path) -> str:
    header = fits.Header({"CTYPE1": "WAVE", "CTYPE2": "LINEAR", "CUNIT1": "m", "CRVAL1": 1.0, "CDELT1": 1.0})
    fits.PrimaryHDU(PIXELS, header).writeto(folder / "w.fits")
    return str(folder / "w.fits")


def cube(folder: Path) -> str:
    return save_tile(folder / "cube.fits", np.stack([PIXELS, PIXELS]), TAN)


def text(folder: Path) -> str:
    (folder / "t.fits").write_text("<html>service unavailable</html>" * 200)
    return str(folder / "t.fits")


def empty(folder: Path) -> str:
    (folder / "t.fits").write_bytes(b"")
    return str(folder / "t.fits")


def damaged(folder: Path) -> str:
    path = Path(two_streams(folder))
    content = bytearray(path.read_bytes())
    content[5000:6000] = bytes(1000)
    path.write_bytes(content)
    return str(path)


def huge_pieces(folder: Path) -> str:
    """A header that announces one piece of 10 gigapixels."""
    path = Path(rows(folder))
    content = path.read_bytes()
    for card, value in (("ZTILE1", 100_000), ("ZTILE2", 100_000), ("ZNAXIS1", 100_000), ("ZNAXIS2", 100_000)):
        at = content.index(f"{card:<8}=".encode())
        content = content[:at] + f"{card:<8}= {value:>20}".ljust(80).encode() + content[at + 80 :]
    path.write_bytes(content)
    return str(path)


def huge_heap(folder: Path) -> str:
    """A header that announces a petabyte of compressed pixels."""
    path = Path(rows(folder))
    content = path.read_bytes()
    at = content.index(b"PCOUNT  =")
    path.write_bytes(content[:at] + f"PCOUNT  = {10**15:>20}".ljust(80).encode() + content[at + 80 :])
    return str(path)


def bomb(folder: Path) -> str:
    """Decompresses to a header of 16 MB."""
    path = folder / "bomb.fits.bz2"
    content = Path(plain(folder)).read_bytes()
    path.write_bytes(bz2.compress(content[:2880] + b"EXTEND".ljust(80) * 200_000))
    return str(path)


def announced(folder: Path) -> str:
    """A compressed file whose header announces 100 megapixels."""
    content = Path(plain(folder)).read_bytes()
    for card in ("NAXIS1", "NAXIS2"):
        at = content.index(f"{card:<8}=".encode())
        content = content[:at] + f"{card:<8}= {10_000:>20}".ljust(80).encode() + content[at + 80 :]
    path = folder / "announced.fits.gz"
    path.write_bytes(gzip.compress(content))
    return str(path)


@pytest.mark.parametrize(
    ("write", "status", "reason"),
    [
        (lambda folder: str(folder / "none.fits"), Status.MISSING, "no such file"),
        (str, Status.MISSING, "no such file"),
        (lambda folder: "/dev/zero", Status.REFUSED, "device"),
        (lambda folder: "nosuchscheme://x/y.fits", Status.UNREACHABLE, "no driver"),
        (lambda folder: cut_short(folder, plain), Status.UNREADABLE, "truncated"),
        (lambda folder: cut_short(folder, plain, 0.001), Status.UNREADABLE, "truncated"),
        (lambda folder: cut_short(folder, brick), Status.UNREADABLE, "truncated"),
        (lambda folder: cut_short(folder, gzipped), Status.UNREADABLE, "truncated"),
        (lambda folder: cut_short(folder, frame), Status.UNREADABLE, "truncated"),
        (damaged, Status.UNREADABLE, "damaged"),
        (without_wcs, Status.UNREADABLE, "no WCS"),
        (spectral_wcs, Status.UNREADABLE, "no WCS"),
        (singular_wcs, Status.UNREADABLE, "not valid"),
        (cube, Status.UNREADABLE, "no image"),
        (text, Status.UNREADABLE, "truncated or damaged"),
        (empty, Status.UNREADABLE, "Empty"),
        (huge_pieces, Status.TOO_LARGE, "100000 x 100000"),
        (huge_heap, Status.TOO_LARGE, "the compressed image has"),
        (bomb, Status.TOO_LARGE, "decompresses to more than"),
        (announced, Status.TOO_LARGE, "10000 x 10000"),
    ],
    ids=[
        "missing", "folder", "device", "scheme", "truncated", "truncated header", "truncated brick", "truncated gzip",
        "truncated frame", "damaged", "no WCS", "spectrum", "singular WCS", "cube", "web page", "empty", "huge pieces",
        "huge heap",
        "bomb", "announced",
    ],
)  # fmt: skip
def test_a_bad_tile_has_a_status_and_a_reason(tmp_path: Path, write: Writer, status: Status, reason: str) -> None:
    with pytest.raises(UnusableCutout) as caught, open_tile(write(tmp_path), MAX_BYTES) as tile:
        tile.read(0, tile.shape[0], 0, tile.shape[1])
    assert caught.value.status == status
    assert reason in caught.value.reason
    assert "\n" not in caught.value.reason


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(retries, "WAIT_GROWTH", 1.0)


@pytest.mark.parametrize("write", [plain, brick, frame], ids=lambda write: write.__name__)
def test_faults_of_the_store_are_retried(s3: S3, impatient: None, tmp_path: Path, write: Writer) -> None:
    path = Path(write(tmp_path))
    uri = s3.put(path.name, path.read_bytes())
    s3.proxy.fail(path.name, "503", times=2)
    with open_tile(uri, MAX_BYTES) as tile:
        s3.proxy.fail(path.name, "reset", times=2)
        assert np.array_equal(tile.read(0, SHAPE[0], 0, SHAPE[1]), in_full(str(path)))


@pytest.mark.parametrize("write", [plain, brick, frame], ids=lambda write: write.__name__)
def test_a_store_that_stays_down_is_not_a_bad_file(s3: S3, impatient: None, tmp_path: Path, write: Writer) -> None:
    path = Path(write(tmp_path))
    uri = s3.put(path.name, path.read_bytes())
    s3.proxy.fail(path.name, "503", times=1000)
    with pytest.raises(UnusableCutout) as caught, open_tile(uri, MAX_BYTES):
        pass
    assert caught.value.status == Status.UNREACHABLE
    with pytest.raises(UnusableCutout) as caught:
        read_header(uri)
    assert caught.value.status == Status.UNREACHABLE
    with pytest.raises(UnusableCutout) as caught, open_tile(f"{s3.uri}/none.fits", MAX_BYTES):
        pass
    assert caught.value.status == Status.MISSING


def test_lookup_tables_of_a_distortion_are_read(tmp_path: Path) -> None:
    """The FITS distortion paper's tables, which are in an extension of their own."""
    header = TAN.to_header()
    shift = np.full((2, 2), 3.0, np.float32)
    for axis in (1, 2):
        header[f"CPDIS{axis}"] = "LOOKUP"
        header[f"DP{axis}"] = f"EXTVER: {axis}.0"
        for card in ("NAXES: 2", "AXIS.1: 1", "AXIS.2: 2"):
            header.append((f"DP{axis}", card), end=True)
    tables = [fits.ImageHDU(shift, name="WCSDVARR", ver=axis) for axis in (1, 2)]
    for table in tables:
        table.header.update(CRPIX1=1, CRVAL1=1, CDELT1=SHAPE[1], CRPIX2=1, CRVAL2=1, CDELT2=SHAPE[0])
    fits.HDUList([fits.PrimaryHDU(PIXELS, header), *tables]).writeto(tmp_path / "d.fits")
    with open_tile(str(tmp_path / "d.fits"), MAX_BYTES) as tile:
        assert tile.wcs.cpdis1 is not None
        plain_position = WCS(TAN.to_header()).all_pix2world(100, 100, 0)
        assert not np.allclose(tile.wcs.all_pix2world(100, 100, 0), plain_position, atol=1e-5)
