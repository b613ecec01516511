import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from galaxy_batch.cutouts.decode import blank_fraction, decode, resize
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
    assert pixels.dtype == torch.uint8


def test_decoding_does_not_change_pixels() -> None:
    image = Image.effect_noise((40, 30), 60).convert("RGB")
    sink = io.BytesIO()
    image.save(sink, "PNG")
    assert np.array_equal(decode(sink.getvalue(), 10_000).permute(1, 2, 0).numpy(), np.asarray(image))


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


@pytest.mark.parametrize(("height", "width"), [(424, 424), (423, 423), (100, 60), (33, 500)])
def test_resize_gives_the_same_pixels_for_one_image_and_a_batch(height: int, width: int) -> None:
    pixels = torch.randint(0, 255, (3, height, width), dtype=torch.uint8)
    small = resize(pixels, 64, 0.8)
    assert small.shape == (3, 64, 64)
    assert small.dtype == torch.uint8
    assert torch.equal(resize(torch.stack([pixels, pixels]), 64, 0.8)[1], small)


def test_resize_is_antialiased_and_exact_on_flat_fields() -> None:
    assert torch.equal(resize(torch.full((3, 424, 424), 77, dtype=torch.uint8), 224, 1.0).unique(), torch.tensor([77]))
    stripes = torch.zeros(3, 400, 400, dtype=torch.uint8)
    stripes[..., ::2] = 200
    assert (resize(stripes, 100, 1.0)[..., 2:-2].float() - 100).abs().max() <= 2


def test_resize_does_not_change_images_of_the_right_size() -> None:
    pixels = torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)
    assert torch.equal(resize(pixels, 64, 1.0), pixels)


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
