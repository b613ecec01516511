"""A corpus of bad and unusual cutouts, made by code: what each is, what may become of it, and what its error says.

`IMAGES` are bytes; `PLACES` are what a location may turn out to be on a disk. What a server may do is in `servers`.
"""

import bz2
import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits
from PIL import Image, PngImagePlugin, TiffImagePlugin

from galaxy_batch.cutouts.bands import pack_bands

__all__ = ["IMAGES", "PLACES", "Kind", "Place", "galaxy", "seeds", "write_place"]

SIDE = 96


@dataclass(frozen=True)
class Kind:
    """One kind of file where a cutout is expected."""

    name: str
    make: Callable[[], bytes]
    statuses: tuple[str, ...] = ("unreadable",)
    says: str = "."
    """A pattern that the error fits, where the status is not `ok`."""


@dataclass(frozen=True)
class Place:
    """One kind of location: its name, what is put there, and what may become of it."""

    name: str
    status: str
    says: str = "."


@cache
def galaxy() -> Image.Image:
    """A small galaxy: a bright round spot with a bar on a noisy sky, in colours."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    light = 180 * np.exp(-np.hypot(x, y * 1.4) / 12) + 60 * np.exp(-(((x + y) / 30) ** 2) - ((x - y) / 5) ** 2)
    sky = np.random.default_rng(1).normal(12, 4, (SIDE, SIDE, 3))
    return Image.fromarray((sky + light[..., None] * [1.0, 0.8, 0.6]).clip(0, 255).astype(np.uint8))


def saved(form: str, image: Image.Image | None = None, **options: Any) -> bytes:
    sink = io.BytesIO()
    (image or galaxy()).save(sink, form, **options)
    return sink.getvalue()


def in_mode(form: str, mode: str, **options: Any) -> Callable[[], bytes]:
    return lambda: saved(form, galaxy().convert(mode), **options)


@cache
def jpeg() -> bytes:
    return saved("JPEG", quality=90)


# JPEG ------------------------------------------------------------------------------------------------------------


def segment(marker: int) -> tuple[int, int]:
    """Where the segment with this marker begins and ends in `jpeg()`."""
    return segment_of(jpeg(), marker)


def cut_in(marker: int) -> Callable[[], bytes]:
    """Cut off in the middle of a segment."""
    return lambda: jpeg()[: sum(segment(marker)) // 2]


def without(marker: int) -> bytes:
    content = jpeg()
    while True:
        try:
            start, end = segment_of(content, marker)
        except IndexError:
            return content
        content = content[:start] + content[end:]


def segment_of(content: bytes, marker: int) -> tuple[int, int]:
    at = 2
    while content[at + 1] != marker:
        if content[at + 1] == 0xDA:
            raise IndexError
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return at, at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")


def patched(offset: int, new: bytes, marker: int = 0xC0) -> Callable[[], bytes]:
    """Other bytes so far behind the beginning of a segment."""

    def make() -> bytes:
        at = segment(marker)[0] + offset
        return jpeg()[:at] + new + jpeg()[at + len(new) :]

    return make


def inserted(marker: int, payload: bytes, times: int = 1) -> Callable[[], bytes]:
    piece = bytes([0xFF, marker]) + (len(payload) + 2).to_bytes(2, "big") + payload
    return lambda: jpeg()[:2] + piece * times + jpeg()[2:]


def scan(change: Callable[[bytes], bytes]) -> Callable[[], bytes]:
    """Another scan: all that is between its header and the end."""
    return lambda: jpeg()[: segment(0xDA)[1]] + change(jpeg()[segment(0xDA)[1] : -2]) + jpeg()[-2:]


@cache
def many_scans(scans: int = 20_000) -> bytes:
    """A progressive JPEG of 24 megapixels and so many scans of nothing: hours of work in a megabyte."""
    side, blocks = 4900, (4900 // 8 + 1) ** 2
    tables = bytes.fromhex("ffdb 0043 00") + b"\1" * 64
    tables += bytes.fromhex("ffc4 0014 00 01") + bytes(15) + b"\0"  # one code, one bit long: no difference
    tables += bytes.fromhex("ffc4 0014 10 01") + bytes(15) + b"\xe0"  # and one for 16,384 blocks of zeros
    frame = bytes.fromhex("ffc2 0011 08") + struct.pack(">HH", side, side) + bytes.fromhex("03 011100 021100 031100")
    first = bytes.fromhex("ffda 000c 03 0100 0200 0300 00 00 00") + bytes(3 * blocks // 8 + 1)
    other = bytes.fromhex("ffda 0008 01 0100 01 3f 00") + bytes((blocks // 16_384 + 1) * 15 // 8 + 1)
    return b"\xff\xd8" + tables + frame + first + other * scans + b"\xff\xd9"


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # as a camera that was held upright
    return saved("JPEG", galaxy().crop((0, 0, SIDE, SIDE // 2)), exif=exif.tobytes())


def ycck() -> bytes:
    """CMYK as Photoshop writes it: the Adobe marker says that the colours are YCCK."""
    content = saved("JPEG", galaxy().convert("CMYK"))
    at = content.index(b"Adobe") + 11
    return content[:at] + b"\2" + content[at + 1 :]


def megapixels(form: str, mode: str, side: int = 10_000) -> Callable[[], bytes]:
    return lambda: saved(form, Image.new(mode, (side, side)))


# PNG -------------------------------------------------------------------------------------------------------------


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int = 8, height: int = 8, depth: int = 8, colour: int = 2, interlace: int = 0, *,
    extra: bytes = b"", data: bytes | None = None, end: bytes = png_chunk(b"IEND", b""),
) -> bytes:  # fmt: skip
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))
    rows = zlib.compress(bytes((width * 3 * depth // 8 + 1) * height)) if data is None else data
    return b"\x89PNG\r\n\x1a\n" + header + extra + png_chunk(b"IDAT", rows) + end


@cache
def zeros(size: int) -> bytes:
    """So many zero bytes, deflated."""
    packer = zlib.compressobj(1)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()


def animated(form: str) -> Callable[[], bytes]:
    frames = [galaxy().rotate(angle) for angle in (90, 180)]
    return lambda: saved(form, save_all=True, append_images=frames)


def bad_crc(kind: bytes) -> Callable[[], bytes]:
    def make() -> bytes:
        content = bytearray(saved("PNG"))
        at = content.index(kind)
        content[at + 4 + struct.unpack(">I", content[at - 4 : at])[0]] ^= 0xFF
        return bytes(content)

    return make


def flipped() -> bytes:
    content = bytearray(saved("PNG"))
    content[content.index(b"IDAT") + 4000] ^= 1
    return bytes(content)


def with_text(size: int) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * size, zip=True)
    return saved("PNG", pnginfo=info)


# TIFF, GIF, BMP, WebP --------------------------------------------------------------------------------------------


def endless_tiff() -> bytes:
    """Two frames, of which the second says that the first comes after it."""
    content = bytearray(saved("TIFF", save_all=True, append_images=[galaxy()]))
    first = struct.unpack_from("<I", content, 4)[0]
    after_first = first + 2 + 12 * struct.unpack_from("<H", content, first)[0]
    second = struct.unpack_from("<I", content, after_first)[0]
    struct.pack_into("<I", content, second + 2 + 12 * struct.unpack_from("<H", content, second)[0], first)
    return bytes(content)


def tiff_with(tag: int, kind: int, count: int, value: int) -> Callable[[], bytes]:
    """A TIFF with another entry for a tag."""

    def make() -> bytes:
        content = bytearray(saved("TIFF"))
        first = struct.unpack_from("<I", content, 4)[0]
        for number in range(struct.unpack_from("<H", content, first)[0]):
            at = first + 2 + 12 * number
            if struct.unpack_from("<H", content, at)[0] == tag:
                struct.pack_into("<HHII", content, at, tag, kind, count, value)
        return bytes(content)

    return make


def gif_with_screen(width: int, height: int) -> bytes:
    content = saved("GIF", galaxy().convert("P"))
    return content[:6] + struct.pack("<HH", width, height) + content[10:]


def bmp_with(at: int, new: bytes) -> Callable[[], bytes]:
    return lambda: saved("BMP")[:at] + new + saved("BMP")[at + len(new) :]


# FITS ------------------------------------------------------------------------------------------------------------


def bands(fill: float | None = None) -> np.ndarray:
    flux = np.asarray(galaxy(), np.float32).transpose(2, 0, 1) / 100
    return flux if fill is None else np.full_like(flux, fill)


def fits_file(*hdus: Any) -> bytes:
    sink = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(sink)
    return sink.getvalue()


def cube(fill: float | None = None) -> bytes:
    return fits_file(fits.PrimaryHDU(bands(fill)))


def card(name: str, value: str, content: bytes | None = None) -> bytes:
    """The cube with another value in a card."""
    content = cube() if content is None else content
    at = content.index(f"{name:<8}=".encode())
    return content[:at] + f"{name:<8}= {value:>20}".ljust(80).encode() + content[at + 80 :]


def largest_fits() -> bytes:
    """As large as may be, and gzipped, so that it is unpacked too: 50 MB of pixels a band."""
    return gzip.compress(fits_file(fits.PrimaryHDU(np.ones((3, 5000, 5000), np.int16))), 1)


def huge_fits(data: int) -> bytes:
    return card("NAXIS1", "20000", card("NAXIS2", "20000"))[:2880] + bytes(data)


@cache
def gzip_bomb(megabytes: int) -> bytes:
    sink = io.BytesIO()
    with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=1, mtime=0) as packed:
        packed.write(cube()[:2880])
        for _ in range(megabytes):
            packed.write(bytes(1 << 20))
    return sink.getvalue()


def bzip2_bomb(megabytes: int) -> bytes:
    return bz2.compress(cube()[:2880]) + bz2.compress(bytes(1 << 20)) * megabytes


def zipped(*files: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for number, content in enumerate(files):
            archive.writestr(str(number), content)
    return sink.getvalue()


def tile_compressed() -> bytes:
    return fits_file(fits.PrimaryHDU(), fits.CompImageHDU((bands() * 100).astype(np.int16)))


# Everything else -------------------------------------------------------------------------------------------------


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"image": [jpeg()]}), sink)
    return sink.getvalue()


def tar() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        entry = tarfile.TarInfo("a.jpg")
        entry.size = len(jpeg())
        archive.addfile(entry, io.BytesIO(jpeg()))
    return sink.getvalue()


class _Opens:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("a-pickle-was-loaded",)


def noise(size: int, start: bytes = b"") -> bytes:
    return start + np.random.default_rng(7).bytes(size)


OK = ("ok",)
LARGE = ("too_large",)
EITHER = ("ok", "unreadable")
NO_IMAGE = "not an image"

IMAGES: tuple[Kind, ...] = (
    Kind("jpeg", jpeg, OK),
    Kind("jpeg, empty file", lambda: b"", says="empty file"),
    Kind("jpeg, one byte", lambda: jpeg()[:1], says=NO_IMAGE),
    Kind("jpeg, cut after SOI", lambda: jpeg()[:2], says=NO_IMAGE),
    Kind("jpeg, cut in APP0", cut_in(0xE0), says="[Tt]runcated"),
    Kind("jpeg, cut in DQT", cut_in(0xDB)),
    Kind("jpeg, cut in SOF0", cut_in(0xC0)),
    Kind("jpeg, cut in DHT", cut_in(0xC4)),
    Kind("jpeg, cut in SOS", cut_in(0xDA)),
    Kind("jpeg, cut in the scan", lambda: jpeg()[: len(jpeg()) // 2], says="[Pp]remature|truncated"),
    Kind("jpeg, cut before EOI", lambda: jpeg()[:-2], says="[Pp]remature|truncated"),
    Kind("jpeg, cut in EOI", lambda: jpeg()[:-1], says="[Pp]remature|truncated"),
    Kind("jpeg, without DQT", lambda: without(0xDB)),
    Kind("jpeg, without SOF0", lambda: without(0xC0)),
    Kind("jpeg, without DHT", lambda: without(0xC4), EITHER),
    Kind("jpeg, without APP0", lambda: without(0xE0), OK),
    Kind("jpeg, cmyk", in_mode("JPEG", "CMYK"), OK),
    Kind("jpeg, ycck", ycck, OK),
    Kind("jpeg, grayscale", in_mode("JPEG", "L"), OK),
    Kind("jpeg, progressive", lambda: saved("JPEG", progressive=True), OK),
    Kind("jpeg, progressive, cut", lambda: saved("JPEG", progressive=True)[:1000], says="[Pp]remature|Huffman"),
    Kind("jpeg, 4:2:0", lambda: saved("JPEG", subsampling=2), OK),
    Kind("jpeg, rgb without ycc", lambda: saved("JPEG", keep_rgb=True), OK),
    Kind("jpeg, restart markers", lambda: saved("JPEG", restart_marker_blocks=3), OK),
    Kind("jpeg, arithmetic in the header", patched(1, b"\xc9")),
    Kind("jpeg, lossless in the header", patched(1, b"\xc3")),
    Kind("jpeg, hierarchical in the header", patched(1, b"\xc5")),
    Kind("jpeg, 12 bit in the header", patched(4, b"\x0c")),
    Kind("jpeg, no height", patched(5, b"\0\0")),
    Kind("jpeg, no width", patched(7, b"\0\0")),
    Kind("jpeg, no components", patched(9, b"\0")),
    Kind("jpeg, 255 components", patched(9, b"\xff")),
    Kind("jpeg, sampling factor 15", patched(11, b"\xff")),
    Kind("jpeg, quantization table 9", patched(12, b"\x09")),
    Kind("jpeg, twice as high as its scan", patched(5, b"\0\xc0")),
    Kind("jpeg, huge dimensions, tiny data", patched(5, b"\xff\xdc\xff\xdc"), LARGE, "65500 x 65500 pixels"),
    Kind("jpeg, 100 megapixels", megapixels("JPEG", "L"), LARGE, "10000 x 10000 pixels, at most"),
    Kind("jpeg, 25 megapixels, the largest", megapixels("JPEG", "RGB", 5000), OK),
    Kind("jpeg, zeros for a scan", scan(lambda s: bytes(len(s))), EITHER),
    Kind("jpeg, noise for a scan", scan(lambda s: noise(len(s)).replace(b"\xff", b"\0"))),
    Kind("jpeg, no scan", scan(lambda s: b"")),
    Kind("jpeg, markers in the scan", scan(lambda s: s[:500] + b"\xff\xd8\xff\xd0\xff\xd7" + s[500:])),
    Kind("jpeg, 20,000 scans", many_scans, says="a JPEG of 20001 scans"),
    Kind("jpeg, 200 comments", inserted(0xFE, b"c" * 60_000, 200), OK),
    Kind("jpeg, a segment longer than the file", lambda: jpeg()[:2] + b"\xff\xe1\xff\xff" + jpeg()[2:], EITHER),
    Kind("jpeg, a segment of length 0", lambda: jpeg()[:2] + b"\xff\xe1\0\0" + jpeg()[2:], EITHER),
    Kind("jpeg, exif rotated", rotated, OK),
    Kind("jpeg, exif of noise", inserted(0xE1, b"Exif\0\0" + noise(500)), OK),
    Kind("jpeg, icc profile", lambda: saved("JPEG", icc_profile=noise(200_000)), OK),
    Kind("jpeg, garbage after EOI", lambda: jpeg() + noise(5000), OK),
    Kind("jpeg, two in one file", lambda: jpeg() + saved("JPEG", galaxy().rotate(90)), OK),
    Kind("jpeg, MPO", animated("MPO"), OK),
    Kind("jpeg, magic before noise", lambda: noise(3000, b"\xff\xd8\xff\xe0")),
    Kind("jpeg, behind a byte order mark", lambda: b"\xef\xbb\xbf" + jpeg(), says=NO_IMAGE),
    Kind("jpeg, as text", lambda: jpeg().hex().encode(), says=NO_IMAGE),
    Kind("jpeg, 1 x 1", lambda: saved("JPEG", Image.new("RGB", (1, 1))), OK),
    Kind("jpeg, 1 x 5000", lambda: saved("JPEG", Image.new("RGB", (1, 5000))), OK),
    Kind("jpeg, 60000 x 1", lambda: saved("JPEG", Image.new("L", (60_000, 1))), OK),
    Kind("png", lambda: saved("PNG"), OK),
    Kind("png, 16 bit gray", in_mode("PNG", "I;16"), says="8 bits per channel"),
    Kind("png, 16 bit colour", lambda: png(depth=16), EITHER),
    Kind("png, 1 bit", in_mode("PNG", "1"), OK),
    Kind("png, palette", in_mode("PNG", "P"), OK),
    Kind("png, alpha", in_mode("PNG", "RGBA"), OK),
    Kind("png, gray and alpha", in_mode("PNG", "LA"), OK),
    Kind("png, transparent palette", in_mode("PNG", "P", transparency=0), OK),
    Kind("png, animated", animated("PNG"), OK),
    Kind("png, interlaced", lambda: png(1, 1, interlace=1), OK),
    Kind("png, bad crc of the header", bad_crc(b"IHDR")),
    Kind("png, bad crc of the pixels", bad_crc(b"IDAT"), EITHER),
    Kind("png, one bit of the pixels wrong", flipped),
    Kind("png, cut", lambda: saved("PNG")[:3000], says="truncated"),
    Kind("png, no end", lambda: png(end=b""), EITHER),
    Kind("png, no pixels", lambda: png(data=zlib.compress(b"")), EITHER),
    Kind("png, noise for pixels", lambda: png(data=noise(300))),
    Kind("png, no width", lambda: png(width=0)),
    Kind("png, depth 3", lambda: png(depth=3)),
    Kind("png, a wrong order", lambda: png()[:8] + png_chunk(b"IDAT", b"") + png()[8:], EITHER),
    Kind("png, huge dimensions, tiny data", lambda: png(100_000, 100_000, data=b""), LARGE, "0000 pixels., at most"),
    Kind("png, 2 billion squared", lambda: png(2**31 - 1, 2**31 - 1, data=b""), LARGE, "pixels., at most"),
    Kind("png, 100 megapixels", megapixels("PNG", "L"), LARGE, "10000 x 10000 pixels"),
    Kind("png, 100 megapixels of one bit", megapixels("PNG", "1"), LARGE, "10000 x 10000 pixels"),
    Kind("png, 25 megapixels, the largest", megapixels("PNG", "RGBA", 5000), OK),
    Kind("png, 256 MB behind 64 pixels", lambda: png(data=zeros(256 << 20)), EITHER),
    Kind("png, zTXt bomb", lambda: with_text(64 << 20), says="too large|MAX_TEXT"),
    Kind("png, iCCP bomb", lambda: png(extra=png_chunk(b"iCCP", b"icc\0\0" + zeros(256 << 20))), EITHER),
    Kind("png, 50,000 empty chunks", lambda: png(extra=png_chunk(b"prVt", b"") * 50_000), OK),
    Kind("png, 1 x 20000", lambda: saved("PNG", Image.new("RGB", (1, 20_000))), OK),
    Kind("gif", lambda: saved("GIF"), OK),
    Kind("gif, animated", animated("GIF"), OK),
    Kind("gif, cut", lambda: saved("GIF")[:2000], says="truncated|broken|buffer"),
    Kind("gif, huge screen", lambda: gif_with_screen(65_535, 65_535), LARGE, "4294836225 pixels., at most"),
    Kind("bmp", lambda: saved("BMP"), OK),
    Kind("bmp, cut", lambda: saved("BMP")[:2000], says="truncated"),
    Kind("bmp, upside down", bmp_with(22, struct.pack("<i", -SIDE)), OK),
    Kind("bmp, huge dimensions", bmp_with(18, struct.pack("<ii", 1 << 30, 1 << 30)), LARGE, "46976 pixels., at most"),
    Kind("bmp, 4 billion colours", bmp_with(46, b"\xff\xff\xff\xff"), EITHER),
    Kind("webp", lambda: saved("WEBP"), OK),
    Kind("webp, lossless", lambda: saved("WEBP", lossless=True), OK),
    Kind("webp, animated", animated("WEBP"), OK),
    Kind("webp, cut", lambda: saved("WEBP")[:250]),
    Kind("webp, noise", lambda: noise(3000, b"RIFF\xb8\x0b\0\0WEBPVP8 ")),
    Kind("tiff", lambda: saved("TIFF"), OK),
    Kind("tiff, lzw", lambda: saved("TIFF", compression="tiff_lzw"), OK),
    Kind("tiff, jpeg inside", lambda: saved("TIFF", compression="jpeg"), OK),
    Kind("tiff, 16 bit", in_mode("TIFF", "I;16"), says="8 bits per channel"),
    Kind("tiff, float", in_mode("TIFF", "F"), says="8 bits per channel"),
    Kind("tiff, cmyk", in_mode("TIFF", "CMYK"), OK),
    Kind("tiff, many frames", animated("TIFF"), OK),
    Kind("tiff, frames in a circle", endless_tiff, OK),
    Kind("tiff, cut", lambda: saved("TIFF")[:3000]),
    Kind("tiff, huge width", tiff_with(TiffImagePlugin.IMAGEWIDTH, 4, 1, 1 << 30), LARGE, "15104 pixels., at most"),
    Kind("tiff, pixels beyond the end", tiff_with(TiffImagePlugin.STRIPOFFSETS, 4, 1, 1 << 31)),
    Kind("tiff, 4 billion strips", tiff_with(TiffImagePlugin.STRIPOFFSETS, 4, 0xFFFFFFFF, 8)),
    Kind("tiff, unknown compression", tiff_with(TiffImagePlugin.COMPRESSION, 3, 1, 9999)),
    Kind("tiff, directory beyond the end", lambda: b"II*\0\xff\xff\xff\x7f" + bytes(100)),
    Kind("avif", lambda: saved("AVIF"), says=NO_IMAGE),
    Kind("heic", lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + noise(500), says=NO_IMAGE),
    Kind("jpeg 2000", lambda: saved("JPEG2000"), says=NO_IMAGE),
    Kind("svg", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>', says="not an image.*svg"),
    Kind("pdf", lambda: saved("PDF"), says="not an image.*PDF"),
    Kind("eps", lambda: saved("EPS"), says=NO_IMAGE),
    Kind("ppm", lambda: saved("PPM"), says=NO_IMAGE),
    Kind("ico", lambda: saved("ICO"), says=NO_IMAGE),
    Kind("icns", lambda: saved("ICNS"), says=NO_IMAGE),
    Kind("tga", lambda: saved("TGA"), says=NO_IMAGE),
    Kind("html page", lambda: b"<!DOCTYPE html><html><h1>503</h1></html>", says="not an image.*DOCTYPE html"),
    Kind("json", lambda: b'{"error": "no imaging at this position"}', says='not an image.*"error"'),
    Kind("xml", lambda: b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', says="not an image.*xml"),
    Kind("text", "keine Aufnahme für diese Stelle\n".encode, says=NO_IMAGE),
    Kind("pickle", lambda: pickle.dumps(_Opens()), says=NO_IMAGE),
    Kind("parquet", parquet, says="not an image.*PAR1"),
    Kind("npy", lambda: b"\x93NUMPY\x01\0" + noise(500), says=NO_IMAGE),
    Kind("tar", tar, says=NO_IMAGE),
    Kind("elf", lambda: noise(500, b"\x7fELF"), says="not an image.*ELF"),
    Kind("noise", lambda: noise(20_000), says=NO_IMAGE),
    Kind("zeros", lambda: bytes(20_000), says=NO_IMAGE),
    Kind("a git-lfs pointer", lambda: b"version https://git-lfs.github.com/spec/v1\n", says="not an image.*git-lfs"),
    Kind("fits", cube, OK),
    Kind("fits, NaN", lambda: cube(np.nan), says="100% of the pixels of the red band have no value"),
    Kind("fits, infinite", lambda: cube(np.inf), says="have no value"),
    Kind("fits, zeros", lambda: cube(0.0), OK),
    Kind("fits, largest floats", lambda: cube(3e38), OK),
    Kind("fits, no image", lambda: fits_file(fits.PrimaryHDU()), says="bands in this file: 0"),
    Kind("fits, one band", lambda: fits_file(fits.PrimaryHDU(bands()[0])), says="bands in this file: 1"),
    Kind("fits, a spectrum", lambda: fits_file(fits.PrimaryHDU(np.zeros(500))), says="bands in this file: 0"),
    Kind("fits, 500 planes", lambda: fits_file(fits.PrimaryHDU(np.zeros((500, 4, 4)))), says="a cube of 500 planes"),
    Kind("fits, cut in the header", lambda: cube()[:500], says="header without an END card"),
    Kind("fits, cut in the pixels", lambda: cube()[:9000], says="truncated: 6120 of"),
    Kind("fits, endless header", lambda: cube()[:80] + b"COMMENT x".ljust(80) * 50_000, says="without an END card"),
    Kind("fits, huge axes", lambda: huge_fits(100), LARGE, "20000 x 20000 pixels"),
    Kind("fits, 25 megapixels, the largest", largest_fits, OK),
    Kind("fits, negative axis", lambda: card("NAXIS1", "-96"), says="NAXIS1 = -96"),
    Kind("fits, axis of text", lambda: card("NAXIS1", "'many'"), says="NAXIS1 = many"),
    Kind("fits, a thousand axes", lambda: card("NAXIS", "1000")),
    Kind("fits, pixels of 7 bits", lambda: card("BITPIX", "7"), says="BITPIX = 7"),
    Kind("fits, noise in the header", lambda: cube()[:800] + noise(80) + cube()[880:], EITHER),
    Kind("fits, tile-compressed", tile_compressed, says="tile-compressed"),
    Kind("fits, a table", lambda: fits_file(fits.PrimaryHDU(), fits.BinTableHDU.from_columns(
        [fits.Column("x", "E", array=[1.0])])), says="bands in this file: 0"),
    Kind("fits, gzip", lambda: gzip.compress(cube()), OK),
    Kind("fits, gzip cut", lambda: gzip.compress(cube())[:2000], says="[Ee]nd-of-stream|ended"),
    Kind("fits, gzip with a bad checksum", lambda: gzip.compress(cube())[:-8] + bytes(8), says="CRC|check"),
    Kind("fits, gzip bomb", lambda: gzip_bomb(700), LARGE, "decompresses to more than"),
    Kind("fits, bzip2 bomb", lambda: bzip2_bomb(700), LARGE, "decompresses to more than"),
    Kind("fits, bzip2 cut", lambda: bz2.compress(cube())[:2000], says="[Ee]nd-of-stream|ended"),
    Kind("gzip of a jpeg", lambda: gzip.compress(jpeg()), says="not a FITS file"),
    Kind("gzip in gzip", lambda: gzip.compress(gzip.compress(cube())), says="not a FITS file"),
    Kind("zip of bands", lambda: pack_bands([fits_file(fits.PrimaryHDU(p)) for p in bands()]), OK),
    Kind("zip of one file", lambda: zipped(jpeg()), says="a zip of 1 files"),
    Kind("zip of nothing", zipped, says="a zip of 0|not a zip|begins with"),
    Kind("zip of jpegs", lambda: zipped(jpeg(), jpeg(), jpeg()), says="not a FITS file"),
    Kind("zip, cut", lambda: pack_bands([cube()] * 3)[:5000], says="zip"),
    Kind("zip bomb", lambda: zipped(*[bytes(32 << 20)] * 3, method=zipfile.ZIP_DEFLATED), says="not stored"),
    Kind("zip of gzip bombs", lambda: zipped(*[gzip_bomb(700)] * 3), LARGE, "decompresses to more than"),
    Kind("zip of cubes", lambda: pack_bands([cube()] * 3), says="bands in a file of one band: 3"),
)  # fmt: skip


def seeds() -> list[bytes]:
    """One good file of each format: what a fuzzer begins with."""
    wanted = ("jpeg", "jpeg, grayscale", "jpeg, cmyk", "jpeg, progressive", "jpeg, restart markers", "png",
              "png, palette", "png, alpha", "png, 16 bit gray", "png, interlaced", "png, animated", "gif",
              "gif, animated", "bmp", "webp", "webp, lossless", "webp, animated", "tiff", "tiff, lzw",
              "tiff, jpeg inside", "tiff, many frames", "fits", "fits, gzip", "zip of bands")  # fmt: skip
    by_name = {kind.name: kind for kind in IMAGES}
    return [by_name[name].make() for name in wanted]


# Places ----------------------------------------------------------------------------------------------------------

PLACES: tuple[Place, ...] = (
    Place("nothing there.jpg", "missing", "no such file"),
    Place("a folder.jpg", "missing", "no such file"),
    Place("a pipe.jpg", "refused", "not a file"),
    Place("file:///dev/zero", "refused", "not a file"),
    Place("/dev/urandom", "refused", "not a file"),
    Place("a broken link.jpg", "missing", "no such file"),
    Place("a circle of links.jpg", "missing", "no such file"),
    Place("a link to a galaxy.jpg", "ok"),
    Place("n" * 300 + ".jpg", "missing", "no such file"),
    Place("in a file.jpg/galaxy.jpg", "missing", "no such file"),
    Place("../galaxy.jpg", "refused", r"'\.\.'"),
    Place("folder/../../galaxy.jpg", "refused", r"'\.\.'"),
    Place("a\nline.jpg", "refused", "control characters"),
    Place("a\tnul\x00.jpg", "refused", "control characters"),
    Place("", "missing"),
    Place("strange \u202egpj.eslaf\u202c Ω🌌 n\u0308.jpg", "ok"),
    Place("percent%2e%2e%2fescapes%00.jpg", "ok"),
    Place("query?versionId=1#fragment.jpg", "ok"),
    Place("a 'quoted' \"name\" $(id) `id` ;.jpg", "ok"),
    Place("glob*[a]?.jpg", "ok"),
    Place("-rf.jpg", "ok"),
    Place("javascript:alert(1)", "missing", "no such file"),
    Place("data:image/png;base64,AAAA", "missing", "no such file"),
    Place("nosuchscheme://host/x.jpg", "unreachable", "no driver for this scheme"),
    Place("http://[broken/x.jpg", "unreachable", "no driver|Error"),
    Place("http://127.0.0.1:9/nobody-listens.jpg", "unreachable", "Error"),
)


def write_place(folder: Path, place: Place) -> None:
    """Put there what the place is named after; nothing where nothing belongs."""
    path = folder / place.name.split("\x00")[0]
    match place.name:
        case "a folder.jpg":
            path.mkdir()
        case "a pipe.jpg":
            os.mkfifo(path)
        case "a broken link.jpg":
            path.symlink_to("nowhere")
        case "a circle of links.jpg":
            path.symlink_to(path.name)
        case "a link to a galaxy.jpg":
            (folder / "galaxy itself").write_bytes(jpeg())
            path.symlink_to("galaxy itself")
        case "in a file.jpg/galaxy.jpg":
            path.parent.write_bytes(jpeg())
        case _ if place.status == "ok":
            path.write_bytes(jpeg())
