import bz2
import gzip
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from PIL import Image

from galaxy_batch.config import ClassifyConfig, ManifestConfig, RgbConfig
from galaxy_batch.cutouts.bands import pack_bands
from galaxy_batch.cutouts.decode import decode
from galaxy_batch.cutouts.fetch import fetch_cutouts
from galaxy_batch.cutouts.resize import Pixels, resize
from galaxy_batch.inputs.manifest import read_objects
from galaxy_batch.model.classifier import Classifier
from galaxy_batch.rows import Status, UnusableCutout
from tests.support.models import SavedModel
from tests.support.repository import REPOSITORY
from train.data.cutouts import load_cutouts

HEIGHT, WIDTH = 30, 40
MAX_PIXELS = 10_000
ON_THE_JPEG = ((79, 398), (163, 366), (278, 310))  # x, y of NGC 6976, 6977, 6978
UPSTREAM = RgbConfig(scale=(1.0, 1.0, 1.0), stretch=0.5, q=10)  # what NGC 6976's JPEG was made with


def bands(seed: int = 0) -> np.ndarray:
    """Sky noise and a red galaxy, off the centre: low and to the left."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    galaxy = np.exp(-((x - 10) ** 2 + (y - 6) ** 2) / 20)
    noise = np.random.default_rng(seed).normal(0, 0.02, (3, HEIGHT, WIDTH))
    return (np.array([2.0, 1.0, 0.4])[:, None, None] * galaxy + noise).astype(np.float32)


def written(*hdus: Any) -> bytes:
    sink = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(sink)
    return sink.getvalue()


def cube(pixels: np.ndarray) -> bytes:
    return written(fits.PrimaryHDU(pixels))


def scaled(stored: np.ndarray, **cards: Any) -> bytes:
    """As `cube`, with scaling cards, which astropy would remove."""
    header = fits.PrimaryHDU(stored).header
    header.update(cards)
    return header.tostring().encode() + stored.astype(stored.dtype.newbyteorder(">")).tobytes()


def three_images(planes: Any) -> bytes:
    return written(fits.PrimaryHDU(), *[fits.ImageHDU(plane) for plane in planes])


def three_files(planes: Any, pack: Callable[[bytes], bytes] = bytes) -> bytes:
    return pack_bands([pack(cube(plane)) for plane in planes])


def changed(content: bytes, card: str, value: str) -> bytes:
    """The file with the value of the first card of this name replaced."""
    at = content.index(f"{card:<8}=".encode())
    return content[:at] + f"{card:<8}= {value:>20}".ljust(80).encode() + content[at + 80 :]


def holed(share: float) -> bytes:
    """A cube whose green band is NaN in its first columns."""
    pixels = bands()
    pixels[1, :, : round(share * WIDTH)] = np.nan
    return cube(pixels)


GOOD = cube(bands())


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        gzip.compress(GOOD),
        bz2.compress(GOOD),
        bz2.compress(GOOD[:4000]) + bz2.compress(GOOD[4000:]),
        cube(bands().astype(np.float64)),
        cube(bands()[None]),
        written(fits.PrimaryHDU(), fits.BinTableHDU(Table({"x": [1, 2]})), fits.ImageHDU(bands())),
        written(fits.PrimaryHDU(bands()), fits.ImageHDU(bands(9))),
        three_images(bands()),
        written(*[(fits.PrimaryHDU, fits.ImageHDU, fits.ImageHDU)[i](plane) for i, plane in enumerate(bands())]),
        three_files(bands()),
        three_files(bands(), gzip.compress),
        three_files(bands(), bz2.compress),
        pack_bands([written(fits.PrimaryHDU(p), fits.ImageHDU(np.ones((HEIGHT, WIDTH), np.int16))) for p in bands()]),
        GOOD.rstrip(b"\0"),
    ],
    ids=[
        "cube", "gzip", "bzip2", "bzip2 in two streams", "float64", "axis of length 1", "after a table",
        "before another cube", "three images", "three images, the first primary", "three files", "three gzips",
        "three bzip2s", "with masks", "without padding",
    ],
)  # fmt: skip
def test_all_layouts_of_three_bands_give_the_same_pixels(content: bytes) -> None:
    pixels = decode(content, MAX_PIXELS)
    assert pixels.shape == (3, HEIGHT, WIDTH)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, decode(GOOD, MAX_PIXELS))


def test_rows_run_from_top_to_bottom_and_bands_keep_their_order() -> None:
    red, green, blue = decode(GOOD, MAX_PIXELS, RgbConfig(scale=(1.0, 1.0, 1.0))).astype(float)
    peak = np.unravel_index(int(red.argmax()), red.shape)
    assert np.abs(np.subtract(peak, (HEIGHT - 1 - 6, 10))).max() <= 1
    at = (slice(HEIGHT - 9, HEIGHT - 3), slice(8, 13))
    assert red[at].mean() > 1.8 * green[at].mean() > 1.8 * 2 * blue[at].mean()


def test_pixels_follow_the_formula_of_lupton_2004() -> None:
    """At one pixel, by hand: f(I) / I times each band, with the mean of the bands as I."""
    fluxes = np.array([0.6, 0.3, 0.15])
    pixels = np.broadcast_to(fluxes[:, None, None], (3, 4, 5)).astype(np.float64)
    rgb = RgbConfig(scale=(1.0, 2.0, 4.0), minimum=0.1, stretch=0.7, q=5.0)
    scaled = fluxes * rgb.scale - rgb.minimum
    mean = scaled.mean()
    brightness = np.arcsinh(rgb.q * mean / rgb.stretch) * 0.1 / np.arcsinh(0.1 * rgb.q)
    assert decode(cube(pixels), 100, rgb)[:, 2, 3].tolist() == np.floor(255 * scaled * brightness / mean).tolist()


def test_drawn_pictures_can_have_the_artefacts_of_a_jpeg() -> None:
    """The same pixels as those of a JPEG that Pillow makes of the picture."""
    pixels = np.random.default_rng(4).normal(0.1, 0.2, (3, 40, 56)).astype(np.float32)
    plain = decode(cube(pixels), MAX_PIXELS)
    saved = io.BytesIO()
    Image.fromarray(plain.transpose(1, 2, 0)).save(saved, "JPEG", quality=80)
    drawn = decode(cube(pixels), MAX_PIXELS, RgbConfig(jpeg_quality=80))
    assert np.array_equal(drawn, decode(saved.getvalue(), MAX_PIXELS))
    assert not np.array_equal(drawn, plain)


def test_drawing_in_strips_is_seamless() -> None:
    """More pixels than are drawn at a time; a different value in each row."""
    column = np.linspace(0, 2, 900)[:, None] * np.ones(600)
    red = decode(cube(np.stack([column] * 3).astype(np.float32)), 10**6, RgbConfig(scale=(1.0,) * 3))[0]
    assert (red == red[:, :1]).all()
    assert (red[:-1, 0] >= red[1:, 0]).all()
    assert red[0, 0] > 150 > red[-1, 0] == 0


def test_bscale_bzero_and_blank_are_applied() -> None:
    stored = np.round(bands() * 1000 - 500).astype(np.int16)
    values = stored * 0.001 + 0.5
    assert np.array_equal(
        decode(scaled(stored, BSCALE=0.001, BZERO=0.5, BLANK=-32768), MAX_PIXELS), decode(cube(values), MAX_PIXELS)
    )
    stored[0, :, : WIDTH // 2 + 1] = -32768
    with pytest.raises(UnusableCutout, match="52% of the pixels of the red band have no value"):
        decode(scaled(stored, BSCALE=0.001, BZERO=0.5, BLANK=-32768), MAX_PIXELS)
    unsigned = (bands().clip(0) * 1000).astype(np.uint16)  # astropy writes them with BZERO = 32768
    rgb = RgbConfig(scale=(0.001,) * 3)
    assert np.array_equal(
        decode(cube(unsigned), MAX_PIXELS, rgb), decode(cube(unsigned.astype(np.float32)), MAX_PIXELS, rgb)
    )


def test_missing_pixels_become_sky_where_they_are_few() -> None:
    pixels = bands()
    pixels[:, :, 25:] = np.nan
    pixels[0, 3, 3], pixels[1, 3, 3], pixels[2, 3, 3] = np.inf, -np.inf, 1e38
    sky = pixels.copy()
    sky[:, :, 25:] = 0
    sky[:2, 3, 3] = 0
    assert np.array_equal(decode(cube(pixels), MAX_PIXELS), decode(cube(sky), MAX_PIXELS))
    assert decode(cube(pixels), MAX_PIXELS)[:, :, 25:].max() == 0


def test_planes_are_chosen_by_number() -> None:
    blue_first = np.concatenate([bands()[::-1], bands(4)[:1]])
    chosen = RgbConfig(planes=(2, 1, 0))
    assert np.array_equal(decode(cube(blue_first), MAX_PIXELS, chosen), decode(GOOD, MAX_PIXELS))
    assert np.array_equal(decode(three_images(blue_first), MAX_PIXELS, chosen), decode(GOOD, MAX_PIXELS))
    with pytest.raises(UnusableCutout, match=r"bands in this file: 2; rgb\.planes asks for 2, 1, 0"):
        decode(cube(bands()[:2]), MAX_PIXELS, chosen)


UNREADABLE, TOO_LARGE = Status.UNREADABLE, Status.TOO_LARGE
NAN = np.full((3, HEIGHT, WIDTH), np.nan, np.float32)
BAD: dict[str, tuple[bytes, Status, str]] = {
    "all NaN": (cube(NAN), UNREADABLE, "100% of the pixels of the red band have no value"),
    "half NaN": (holed(0.5), UNREADABLE, "50% of the pixels of the green band have no value"),
    "no image": (written(fits.PrimaryHDU(), fits.BinTableHDU(Table({"x": [1]}))), UNREADABLE, "bands in this file: 0"),
    "no data": (written(fits.PrimaryHDU()), UNREADABLE, "bands in this file: 0; three are needed"),
    "one band": (cube(bands()[0]), UNREADABLE, "bands in this file: 1; three are needed"),
    "two bands": (three_images(bands()[:2]), UNREADABLE, "bands in this file: 2"),
    "four bands": (three_images([*bands(), bands()[0]]), UNREADABLE, "bands in this file: 4"),
    "a cube of five": (cube(np.ones((5, HEIGHT, WIDTH), np.float32)), UNREADABLE, "bands in this file: 5"),
    "a spectral cube": (cube(np.ones((99, 9, 9), np.float32)), UNREADABLE, "a cube of 99 planes"),
    "a spectrum": (cube(np.ones(100, np.float32)), UNREADABLE, "bands in this file: 0"),
    "two sizes": (three_images([*bands()[:2], bands()[0, :-1]]), UNREADABLE, "40 x 30, 40 x 30, 40 x 29"),
    "three files, two sizes": (three_files([*bands()[:2], bands()[0, :-1]]), UNREADABLE, "bands of different sizes"),
    "a cube in a zip": (pack_bands([GOOD] * 3), UNREADABLE, "bands in a file of one band: 3"),
    "a zip of JPEGs": (pack_bands([b"\xff\xd8\xff\xe0"] * 3), UNREADABLE, "not a FITS file: begins with b'\\xff\\xd8"),
    "half a zip": (three_files(bands())[:5000], UNREADABLE, "BadZipFile"),
    "image, mask, variance": (
        three_images([bands()[0], np.ones((HEIGHT, WIDTH), np.int32), bands()[1]]), UNREADABLE, "that are not bands",
    ),
    "truncated": (GOOD[:8000], UNREADABLE, "truncated: 5120 of 14400 bytes"),
    "truncated at the data": (GOOD[:2880], UNREADABLE, "truncated: 0 of 14400 bytes"),
    "truncated in the header": (GOOD[:300], UNREADABLE, "a header without an END card"),
    "truncated bzip2": (bz2.compress(GOOD)[:-20], UNREADABLE, "EOFError"),
    "truncated gzip": (gzip.compress(GOOD)[:-20], UNREADABLE, "EOFError"),
    "damaged bzip2": (bz2.compress(GOOD)[:500] + bytes(20) + bz2.compress(GOOD)[520:], UNREADABLE, "OSError"),
    "not FITS in gzip": (gzip.compress(b"<html>"), UNREADABLE, "not a FITS file: begins with b'<html>'"),
    "gzip in gzip": (gzip.compress(gzip.compress(GOOD)), UNREADABLE, "not a FITS file"),
    "too many pixels": (cube(np.ones((3, 101, 100), np.float32)), TOO_LARGE, "100 x 101 pixels, at most 10000"),
    "a huge size": (changed(GOOD, "NAXIS1", "2000000000"), TOO_LARGE, "2000000000 x 30 pixels"),
    "a size beyond 64 bits": (changed(GOOD, "NAXIS2", "9" * 20), TOO_LARGE, "40 x 99999999999999999999 pixels"),
    "a huge size in bzip2": (bz2.compress(changed(GOOD, "NAXIS1", "2000000000")), TOO_LARGE, "2000000000 x 30"),
    "many planes": (changed(GOOD, "NAXIS3", "2000000000"), UNREADABLE, "a cube of 2000000000 planes"),
    "no width": (changed(GOOD, "NAXIS1", "0"), UNREADABLE, "bands in this file: 0"),
    "negative width": (changed(GOOD, "NAXIS1", "-40"), UNREADABLE, "NAXIS1 = -40"),
    "a width that is text": (changed(GOOD, "NAXIS1", "'wide'"), UNREADABLE, "NAXIS1 = wide"),
    "a fractional width": (changed(GOOD, "NAXIS1", "2.5"), UNREADABLE, "NAXIS1 = 2.5"),
    "no axes": (changed(GOOD, "NAXIS", "0"), UNREADABLE, "bands in this file: 0"),
    "negative axes": (changed(GOOD, "NAXIS", "-3"), UNREADABLE, "bands in this file: 0"),
    "NAXIS above the axes given": (changed(GOOD, "NAXIS", "4"), UNREADABLE, "NAXIS4"),
    "unknown BITPIX": (changed(GOOD, "BITPIX", "-33"), UNREADABLE, "BITPIX = -33"),
    "no BITPIX": (GOOD.replace(b"BITPIX  =", b"NOTBITPI=", 1), UNREADABLE, "BITPIX"),
    "negative PCOUNT": (
        changed(three_images(bands()), "PCOUNT", "-99999999"), UNREADABLE, "PCOUNT = -99999999",
    ),
    "BSCALE is text": (scaled(bands(), BSCALE="one"), UNREADABLE, "ValueError"),
    "only a keyword": (b"SIMPLE  =", UNREADABLE, "a header without an END card"),
    "an endless header": (GOOD[:80] + b"COMMENT " + b"x" * (3 << 20), UNREADABLE, "a header without an END card"),
    "non-ASCII bytes": (GOOD[:200] + bytes(range(256)) * 3 + GOOD[968:], UNREADABLE, ""),
}  # fmt: skip


@pytest.mark.parametrize(("content", "status", "reason"), BAD.values(), ids=BAD.keys())
def test_bad_files_get_a_status_and_a_reason(content: bytes, status: Status, reason: str) -> None:
    with pytest.raises(UnusableCutout) as caught:
        decode(content, MAX_PIXELS)
    assert (caught.value.status, reason in caught.value.reason) == (status, True), caught.value.reason


@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1"])
def test_tile_compressed_images_are_refused_by_name(kind: str) -> None:
    image = fits.CompImageHDU((bands()[0] * 100).clip(0).astype(np.int16), compression_type=kind)
    with pytest.raises(UnusableCutout, match=rf"a tile-compressed image \({kind}\): decompress it") as caught:
        decode(written(fits.PrimaryHDU(), image), MAX_PIXELS)
    assert caught.value.status == Status.UNREADABLE


def test_decompression_bombs_are_refused(tmp_path: Path) -> None:
    """A gigabyte of zeros in a few kilobytes, decoded in a process that may not allocate that much."""
    for pack in (gzip.compress, bz2.compress):
        bomb = pack(GOOD) + pack(bytes(1 << 24)) * 64
        (tmp_path / f"{pack.__module__}-alone").write_bytes(bomb)
        (tmp_path / f"{pack.__module__}-in-a-zip").write_bytes(pack_bands([bomb] * 3))
    script = """
import pathlib, resource, sys
from galaxy_batch.cutouts.decode import decode
from galaxy_batch.rows import UnusableCutout
from galaxy_batch.cutouts.fits import decode_fits
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (256 << 20), size + (256 << 20)))
for file in pathlib.Path(sys.argv[1]).iterdir():
    try:
        decode(file.read_bytes(), 100_000)
    except UnusableCutout as bad:
        print(bad.status, bad.reason)
"""
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, str(tmp_path)]
    process = subprocess.run(command, cwd=REPOSITORY, env=one_thread, capture_output=True, text=True, check=True)
    limits = [line.removeprefix("too_large decompresses to more than ") for line in process.stdout.splitlines()]
    assert sorted(limits) == ["2897152 bytes"] * 2 + ["4497152 bytes"] * 2


def test_damaged_files_give_pixels_or_unusable_cutout() -> None:
    """Random bytes at random offsets raise nothing but `UnusableCutout`."""
    random = np.random.default_rng(7)
    files = [GOOD, three_images(bands()), three_files(bands(), bz2.compress), gzip.compress(GOOD)]
    outcomes = {"pixels": 0, "unusable": 0}
    for round_ in range(400):
        content = bytearray(files[round_ % len(files)])
        if round_ % 3:
            for _ in range(random.integers(1, 8)):
                content[random.integers(0, min(len(content), 3000))] = random.integers(0, 256)
        else:
            del content[random.integers(0, len(content)) :]
        try:
            assert decode(bytes(content), MAX_PIXELS).shape[0] == 3
            outcomes["pixels"] += 1
        except UnusableCutout:
            outcomes["unusable"] += 1
    assert min(outcomes.values()) > 40, outcomes


def test_decoding_a_jpeg_does_not_import_astropy() -> None:
    script = """
import io, sys
from PIL import Image
from galaxy_batch.cutouts.decode import decode
sink = io.BytesIO()
Image.new("RGB", (20, 20)).save(sink, "JPEG")
decode(sink.getvalue(), 1000)
assert "astropy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True, timeout=60)


def test_the_first_band_that_fails_gives_the_status(tmp_path: Path) -> None:
    for object_, missing in ((1, ""), (2, "r"), (3, "rg"), (4, "")):
        for band, plane in zip("irg", bands(), strict=True):
            if band not in missing:
                (tmp_path / f"{object_}-{band}.fits.bz2").write_bytes(bz2.compress(cube(plane)))
    (tmp_path / "4-g.fits.bz2").write_bytes(bytes(20_000))
    Table({"object_id": [1, 2, 3, 4, 5], "file": ["1", "2", "3", "4", "../1"]}).write(tmp_path / "t.csv")
    config = ManifestConfig(uri=str(tmp_path / "t.csv"), band_templates=tuple(f"{{file}}-{b}.fits.bz2" for b in "irg"))
    rows = fetch_cutouts(read_objects(config), max_bytes=20_000)
    assert rows["status"].to_pylist() == ["ok", "missing", "missing", "too_large", "refused"]
    errors = rows["error"].to_pylist()
    assert errors[:4] == [
        None, "green band: no such file", "green band: no such file", "more than 20000 bytes",
    ]  # fmt: skip
    assert errors[4].startswith("red band: no URI")
    content = rows["_image_bytes"].to_pylist()
    assert content[0] == three_files(bands(), bz2.compress)
    assert content[1:] == [None] * 4
    assert "_image_uri" not in rows.column_names


@pytest.fixture(scope="module")
def ngc6976(sky: Path) -> dict[str, bytes]:
    """SDSS frames of NGC 6976 and its neighbours, as they are stored, by band."""
    return {b: (sky / "fits_ngc6976" / f"reprojected_sdss_{b}.fits.bz2").read_bytes() for b in "irg"}


def similarity(ours: Pixels, theirs: Pixels) -> list[float]:
    """Correlation of each channel, of means over 8 x 8 pixels, so that single bright pixels do not dominate."""
    means = [
        torch.nn.functional.avg_pool2d(torch.tensor(image.copy()).float(), 8).flatten(1).numpy()
        for image in (ours, theirs)
    ]
    return [float(np.corrcoef(a, b)[0, 1]) for a, b in zip(*means, strict=True)]


def test_real_frames_match_their_jpeg(sky: Path, ngc6976: dict[str, bytes]) -> None:
    with Image.open(sky / "fits_ngc6976" / "ngc6976.jpeg") as image:
        jpeg = np.array(image.resize((682, 496), Image.Resampling.BOX)).transpose(2, 0, 1)
    content = pack_bands([ngc6976[band] for band in "irg"])
    same = decode(content, 400_000, UPSTREAM)
    assert same.shape == jpeg.shape
    assert min(similarity(same, jpeg)) > 0.98
    assert max(*similarity(np.flip(same, 1), jpeg), *similarity(np.flip(same, 2), jpeg)) < 0.1
    for x, y in ON_THE_JPEG:  # the same colours
        disc = (slice(None), slice(y - 4, y + 5), slice(x - 4, x + 5))
        assert same[disc].astype(float).mean((1, 2)).tolist() == pytest.approx(
            jpeg[disc].astype(float).mean((1, 2)).tolist(), rel=0.05
        )
    assert min(similarity(decode(content, 400_000), jpeg)) > 0.97


def test_default_colours_match_sdss_jpegs(sky: Path, ngc6976: dict[str, bytes]) -> None:
    """The colours of the three galaxies lie within those of the spirals in SDSS DR7 JPEGs."""
    table = Table.read(sky / "sdss_dr7" / "objects.csv")
    spirals = [row["dr7objid"] for row in table if str(row["gz1_class"]).startswith("spiral")][:60]
    files = [sky / "sdss_dr7" / "images" / f"{name}.jpeg" for name in spirals]
    jpegs = np.array([colours(decode(file.read_bytes(), 10**6)) for file in files])
    picture = decode(pack_bands([ngc6976[band] for band in "irg"]), 400_000)
    ours = np.array([colours(picture[:, y - 48 : y + 48, x - 48 : x + 48]) for x, y in ON_THE_JPEG])
    low, high = np.percentile(jpegs, [2.5, 97.5], axis=0)
    assert ((ours.mean(axis=0) > low) & (ours.mean(axis=0) < high)).all(), (ours, low, high)


def colours(pixels: Pixels) -> list[float]:
    """Red/green and green/blue, where the image is neither sky nor saturated."""
    red, green, blue = pixels.astype(float).reshape(3, -1)
    brightness = red + green + blue
    disc = (brightness > 150) & (brightness < 450)
    return [float(red[disc].mean() / green[disc].mean()), float(green[disc].mean() / blue[disc].mean())]


POSITIONS = {6976: (313.1083, -5.7722), 6977: (313.1238, -5.7461), 6978: (313.1479, -5.7111)}  # NGC; ICRS, degrees


def test_three_real_galaxies_from_fits_to_probabilities(
    saved_model: SavedModel, ngc6976: dict[str, bytes], tmp_path: Path
) -> None:
    """Cubes and files per band give the same pixels and probabilities, in training too."""
    frames = {band: fits.getdata(io.BytesIO(bz2.decompress(content))) for band, content in ngc6976.items()}
    wcs = WCS(fits.getheader(io.BytesIO(bz2.decompress(ngc6976["r"]))))
    for name, position in POSITIONS.items():
        x, y = np.round(wcs.wcs_world2pix(*position, 0)).astype(int)
        stamps = {band: frame[y - 48 : y + 48, x - 48 : x + 48] for band, frame in frames.items()}
        (tmp_path / f"{name}.fits").write_bytes(cube(np.stack([stamps[band] for band in "irg"])))
        for band, stamp in stamps.items():
            (tmp_path / f"{name}-{band}.fits.bz2").write_bytes(bz2.compress(cube(stamp)))
    ra, dec = zip(*POSITIONS.values(), strict=True)
    Table({"object_id": list(POSITIONS), "ra": ra, "dec": dec}).write(tmp_path / "objects.csv")
    about = {"uri": str(tmp_path / "objects.csv"), "ra_column": "ra", "dec_column": "dec"}
    results = [
        classified(ManifestConfig(**about, **where), saved_model)
        for where in (
            {"uri_template": "{object_id}.fits"},
            {"band_templates": tuple(f"{{object_id}}-{band}.fits.bz2" for band in "irg")},
        )
    ]
    for rows in results:
        assert rows["object_id"].to_pylist() == list(POSITIONS)
        assert rows["status"].to_pylist() == ["ok"] * 3
        assert rows["ra"].to_pylist() == list(ra)
        assert max(rows["_blank_fraction"].to_pylist()) < 0.5
        assert len(set(rows["image_hash"].to_pylist())) == 3
        assert rows["p_featured"].equals(results[0]["p_featured"])


def classified(config: ManifestConfig, model: SavedModel) -> pa.Table:
    """Classified rows of a manifest; also checks that training reads the same pixels."""
    objects = read_objects(config)
    settings = ClassifyConfig(rgb=RgbConfig(stretch=0.4))
    actor = Classifier(model.uri, settings, 2, "torch", "fp32", 1)
    spec = actor.checkpoint.spec
    fetched = fetch_cutouts(objects, settings.max_image_bytes)
    seen = [
        resize(decode(content, 10**6, settings.rgb), spec.size_px, spec.crop_fraction)
        for content in fetched["_image_bytes"].to_pylist()
    ]
    learned = load_cutouts(objects, spec.size_px, spec.crop_fraction, 1, settings.rgb)
    assert np.array_equal(learned.pixels.numpy(), np.stack(seen))
    return actor(fetched)
