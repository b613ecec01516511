import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from galaxy_batch.cutouts.decode import blank_fraction, decode
from galaxy_batch.rows import Status, UnusableCutout
from galaxy_batch.synthetic.rendering import render
from galaxy_batch.synthetic.survey import DEFECTS


def encoded(form: str, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> bytes:
    image = Image.effect_noise(size, 60).convert(mode)
    sink = io.BytesIO()
    image.save(sink, form)
    return sink.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_images_decode_to_three_uint8_channels(form: str, mode: str) -> None:
    pixels = decode(encoded(form, mode), 10_000)
    assert pixels.shape == (3, 30, 40)
    assert pixels.dtype == np.uint8


def test_decoding_does_not_change_pixels() -> None:
    image = Image.effect_noise((40, 30), 60).convert("RGB")
    sink = io.BytesIO()
    image.save(sink, "PNG")
    assert np.array_equal(decode(sink.getvalue(), 10_000).transpose(1, 2, 0), np.asarray(image))


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (b"", Status.UNREADABLE, "empty file"),
        (b"<html>503</html>", Status.UNREADABLE, "not an image: begins with b'<html>"),
        (encoded("JPEG")[:300], Status.UNREADABLE, ""),
        (encoded("PNG")[:300], Status.UNREADABLE, ""),
        (encoded("PNG", size=(300, 300)), Status.TOO_LARGE, "300 x 300 pixels, at most 10000 are allowed"),
        (encoded("PNG", "I;16"), Status.UNREADABLE, "8 bits per channel are needed"),
        (encoded("PPM"), Status.UNREADABLE, "not an image"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 100, Status.UNREADABLE, ""),
    ],
)
def test_unusable_files_get_a_status_and_a_reason(content: bytes, status: Status, reason: str) -> None:
    with pytest.raises(UnusableCutout) as caught:
        decode(content, 10_000)
    assert caught.value.status == status
    assert reason in caught.value.reason


def test_blank_frames_have_a_higher_blank_fraction_than_galaxies() -> None:
    blank = [DEFECTS[name](b"") or b"" for name in ("black", "server_message", "placeholder")]
    galaxies = [render(index, seed=5) for index in range(12)]
    shares = [blank_fraction(decode(content, 10**6)) for content in [*blank, *galaxies]]
    assert min(shares[:3]) > 0.93
    assert max(shares[3:]) < 0.8


def test_real_galaxies_are_not_blank(sky: Path) -> None:
    for folder in ("gz2", "sdss_dr7"):
        files = sorted((sky / folder / "images").iterdir())[::40]
        shares = [blank_fraction(decode(f.read_bytes(), 10**6)) for f in files]
        assert max(shares) < 0.85
