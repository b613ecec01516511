"""The pictures of a queue show what the model sees, in every format, and a missing one is an error of its row."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg
from astropy.io import fits
from PIL import Image

from galaxy_batch.config import ClassifyConfig, ManifestConfig, RgbConfig
from galaxy_batch.cutouts.bands import pack_bands
from galaxy_batch.cutouts.decode import decode
from galaxy_batch.review_queue.bundle import CHANGED, encode_picture, picture_within
from galaxy_batch.rows import UnusableCutout
from tests.support.queues import new_queue, publish_with_cutouts, small_jpeg
from tests.support.skies import sky_rows

LIMITS = ClassifyConfig()


def smooth_pixels(height: int = 48, width: int = 64) -> npt.NDArray[np.uint8]:
    """``(height, width, 3)``, without fine detail, which JPEG would change."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 3, y * 4, (x + y)], axis=-1).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def rotated_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by a quarter
    exif[0x010E] = "a secret description"
    return exif


def as_browsers_show(content: bytes) -> npt.NDArray[np.uint8]:
    """``(height, width, 3)`` with the EXIF orientation and on black where transparent."""
    with Image.open(io.BytesIO(content)) as image:
        assert not image.getexif()
        assert "icc_profile" not in image.info
        assert image.mode in ("RGB", "L", "P")
        return np.array(image.convert("RGB"))


def fits_cube() -> bytes:
    sink = io.BytesIO()
    rng = np.random.default_rng(0)
    fits.PrimaryHDU(rng.gamma(1, 0.3, (3, 50, 40)).astype(np.float32)).writeto(sink)
    return sink.getvalue()


def fits_bands() -> bytes:
    bands = []
    for number in range(3):
        sink = io.BytesIO()
        fits.PrimaryHDU(np.random.default_rng(number).gamma(1, 0.3, (50, 40)).astype(np.float32)).writeto(sink)
        bands.append(sink.getvalue())
    return pack_bands(bands)


def cmyk_jpeg() -> bytes:
    return saved(Image.fromarray(smooth_pixels()).convert("CMYK"), "JPEG", quality=95)


def animated_png() -> bytes:
    frames = [Image.fromarray(np.full((20, 20, 3), level, np.uint8)) for level in (10, 200)]
    return saved(frames[0], "PNG", save_all=True, append_images=frames[1:])


CONTENTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "jpeg": (lambda: saved(Image.fromarray(smooth_pixels()), "JPEG", quality=95), "jpg"),
    "grey jpeg": (lambda: saved(Image.fromarray(smooth_pixels()).convert("L"), "JPEG"), "jpg"),
    "progressive jpeg": (lambda: saved(Image.fromarray(smooth_pixels()), "JPEG", progressive=True), "jpg"),
    "turned jpeg": (lambda: saved(Image.fromarray(smooth_pixels()), "JPEG", exif=rotated_exif()), "jpg"),
    "jpeg with a profile": (lambda: saved(Image.fromarray(smooth_pixels()), "JPEG", icc_profile=b"x" * 99), "jpg"),
    "cmyk jpeg": (cmyk_jpeg, "jpg"),
    "rgb jpeg": (lambda: saved(Image.fromarray(smooth_pixels()), "JPEG", keep_rgb=True), "jpg"),
    "png": (lambda: saved(Image.fromarray(smooth_pixels()), "PNG"), "png"),
    "turned png": (lambda: saved(Image.fromarray(smooth_pixels()), "PNG", exif=rotated_exif()), "png"),
    "palette png": (lambda: saved(Image.fromarray(smooth_pixels()).quantize(32), "PNG"), "png"),
    "animated png": (animated_png, "png"),
    "transparent png": (lambda: saved(Image.fromarray(smooth_pixels()).convert("RGBA"), "PNG"), "jpg"),
    "webp": (lambda: saved(Image.fromarray(smooth_pixels()), "WEBP", lossless=True), "jpg"),
    "tiff": (lambda: saved(Image.fromarray(smooth_pixels()), "TIFF"), "jpg"),
    "fits cube": (fits_cube, "jpg"),
    "fits bands": (fits_bands, "jpg"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_browsers_show_the_pixels_of_the_model(name: str) -> None:
    make, ending = CONTENTS[name]
    content = make()
    picture, kind = encode_picture(content, LIMITS, 1024)
    assert kind == ending
    assert picture.startswith(b"\xff\xd8\xff" if kind == "jpg" else b"\x89PNG")
    assert b"a secret description" not in picture
    shown = as_browsers_show(picture).astype(int)
    expected = decode(content, LIMITS.max_image_pixels).transpose(1, 2, 0).astype(int)
    assert shown.shape == expected.shape
    if name in ("fits cube", "fits bands"):
        assert np.abs(shown - expected).mean() < 6  # noise
    else:
        assert np.abs(shown - expected).mean() < 1.5
    if name in ("jpeg", "grey jpeg", "progressive jpeg", "png"):
        assert np.array_equal(decode(picture, LIMITS.max_image_pixels), decode(content, LIMITS.max_image_pixels))
        assert len(picture) <= len(content)


def test_gamma_and_transparent_colours_do_not_change_a_png() -> None:
    plain = saved(Image.fromarray(smooth_pixels()), "PNG")
    gamma = struct.pack(">I4sI", 4, b"gAMA", 99999)
    with_gamma = plain[:33] + gamma + struct.pack(">I", zlib.crc32(gamma[4:])) + plain[33:]
    assert encode_picture(with_gamma, LIMITS, 1024) == (plain, "png")
    transparent = saved(Image.fromarray(smooth_pixels()), "PNG", transparency=(0, 0, 0))
    assert encode_picture(transparent, LIMITS, 1024)[1] == "jpg"


def test_large_cutouts_are_scaled_down_and_settings_of_fits_are_those_of_the_catalog() -> None:
    large = saved(Image.fromarray(smooth_pixels(100, 200)), "PNG")
    picture, kind = encode_picture(large, LIMITS, 64)
    assert kind == "jpg"
    assert as_browsers_show(picture).shape == (32, 64, 3)
    bright = ClassifyConfig(rgb=RgbConfig(stretch=0.01))
    shown = as_browsers_show(encode_picture(fits_cube(), bright, 1024)[0])
    assert shown.mean() > as_browsers_show(encode_picture(fits_cube(), LIMITS, 1024)[0]).mean() + 20


@pytest.mark.parametrize(
    "content", [b"", b"<html>", small_jpeg(1)[:-200], saved(Image.fromarray(np.zeros((9, 9), np.uint16)), "PNG")]
)
def test_what_the_model_cannot_see_is_no_picture(content: bytes) -> None:
    with pytest.raises(UnusableCutout):
        encode_picture(content, LIMITS, 1024)


@pytest.mark.parametrize("max_bytes", [100_000, 20_000, 3000])
def test_a_picture_within_a_number_of_bytes(max_bytes: int) -> None:
    noisy = small_jpeg(1, side_px=200)
    assert len(noisy) > 20_000
    content = picture_within(noisy, max_bytes)
    assert len(content) <= max_bytes
    assert (content == noisy) == (len(noisy) <= max_bytes)
    height, width, *_ = simplejpeg.decode_jpeg_header(content)
    assert height == width
    assert (height < 200) == (content != noisy)


def test_rows_keep_their_place_when_a_picture_is_missing_broken_or_changed(tmp_path: Path) -> None:
    rows = sky_rows(200, seed=1)
    catalog = publish_with_cutouts(tmp_path, rows)
    ids = rows.filter(rows["predicted_class"].is_valid())["object_id"].to_pylist()[:4]
    files = [tmp_path / "cutouts" / f"{one}.jpg" for one in ids]
    files[0].unlink()
    files[1].write_bytes(b"not an image")
    files[2].write_bytes(small_jpeg(999_999))
    queue = new_queue(catalog, uniform=1000)
    pictures = {row["object_id"]: (row["picture"], row["picture_error"]) for row in queue.rows.to_pylist()}
    assert pictures[ids[0]] == (None, "no longer in the manifest")
    assert pictures[ids[1]][0] is None
    assert pictures[ids[1]][1].startswith("unreadable: ")
    assert pictures[ids[2]][1] == CHANGED
    assert (Path(queue.uri) / pictures[ids[2]][0]).read_bytes() == small_jpeg(999_999)
    path, error = pictures[ids[3]]
    assert error is None
    assert (Path(queue.uri) / path).read_bytes() == files[3].read_bytes()
    assert queue.record["pictures"] == len(queue.rows) - 2
    assert sorted(filter(None, queue.rows["picture"].to_pylist())) == queue.rows["picture"].drop_null().to_pylist()


@pytest.mark.parametrize("text_ids", [False, True])
def test_images_within_a_table(tmp_path: Path, text_ids: bool) -> None:
    """A Parquet manifest with the bytes inside, as `jobs.pack_cutouts` writes it, at another place than then."""
    rows = sky_rows(300, seed=2, text_ids=text_ids)
    catalog = publish_with_cutouts(tmp_path, rows)
    usable = rows.filter(rows["predicted_class"].is_valid())["object_id"]
    images = [(tmp_path / "cutouts" / f"{one}.jpg").read_bytes() for one in usable.to_pylist()]
    table = pa.table({"id": usable, "image": pa.array(images, pa.binary())})
    pq.write_table(table, tmp_path / "packed.parquet", row_group_size=37)
    source = ManifestConfig(str(tmp_path / "packed.parquet"), id_column="id", image_column="image")
    queue = new_queue(catalog, uniform=150, manifest=source)
    assert queue.record["pictures"] == 150
    expected = dict(zip(usable.to_pylist(), images, strict=True))
    for row in queue.rows.to_pylist():
        assert (Path(queue.uri) / row["picture"]).read_bytes() == expected[row["object_id"]]


def test_real_galaxies(sky: Path) -> None:
    """SDSS's JPEGs are copied to the last byte, and its bands are drawn as the model sees them."""
    for file in sorted((sky / "sdss_dr7" / "images").iterdir())[:10]:
        picture, kind = encode_picture(file.read_bytes(), LIMITS, 1024)
        assert kind == "jpg"
        assert np.array_equal(decode(picture, 10**7), decode(file.read_bytes(), 10**7))
        assert len(picture) > 0.9 * file.stat().st_size
    bands = pack_bands([(sky / "fits_ngc6976" / f"reprojected_sdss_{band}.fits.bz2").read_bytes() for band in "irg"])
    picture, kind = encode_picture(bands, LIMITS, 1024)
    shown, expected = as_browsers_show(picture).astype(int), decode(bands, 10**7).transpose(1, 2, 0)
    assert kind == "jpg"
    assert shown.shape == expected.shape == (496, 682, 3)
    assert np.abs(shown - expected).mean() < 3
