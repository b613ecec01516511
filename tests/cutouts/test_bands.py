import io
import zipfile

import pytest

from galaxy_batch.cutouts.bands import pack_bands, unpack_bands
from galaxy_batch.cutouts.fetch import hash_image
from galaxy_batch.rows import Status, UnusableCutout

FILES = [b"reddest", b"", b"bluest" * 1000]


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return sink.getvalue()


def test_unpacked_files_equal_packed_ones_in_order() -> None:
    assert unpack_bands(pack_bands(FILES)) == FILES


def test_equal_files_give_equal_bytes_on_every_machine_and_day() -> None:
    assert hash_image(pack_bands(FILES)) == 8638270917437122195


def test_any_uncompressed_zip_of_three_files_is_accepted() -> None:
    assert unpack_bands(zipped({"z.fits": b"1", "a/b.fits": b"2", "m.fits": b"3"})) == [b"1", b"2", b"3"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (zipped({"a": b"1", "b": b"2"}), "a zip of 2 files"),
        (zipped({str(i): b"1" for i in range(4)}), "a zip of 4 files"),
        (
            zipped({str(i): bytes(10**7) for i in range(3)}, zipfile.ZIP_DEFLATED),
            "'0' is compressed or has a wrong size",
        ),
        (
            pack_bands(FILES).replace(b"\x70\x17\x00\x00", b"\xff\xff\xff\x7f"),
            "'blue' is compressed or has a wrong size",
        ),
    ],
    ids=["two files", "four files", "compressed", "wrong size"],
)
def test_other_zips_are_unreadable(content: bytes, reason: str) -> None:
    with pytest.raises(UnusableCutout, match=reason) as caught:
        unpack_bands(content)
    assert caught.value.status == Status.UNREADABLE


@pytest.mark.parametrize("count", [2, 4])
def test_only_three_files_can_be_packed(count: int) -> None:
    with pytest.raises(ValueError, match="zip"):
        pack_bands([b"x"] * count)
