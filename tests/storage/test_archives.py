import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from galaxy_batch.errors import InputError
from galaxy_batch.storage import archives
from galaxy_batch.storage.archives import DamagedMemberError, is_archive, member_uri, open_archive, split_member_uri
from galaxy_batch.storage.files import read_heads
from tests.support.s3_server import S3

CONTENTS = {f"images/{name}.jpg": f"cutout {name} ".encode() * 50 for name in ("1", "a b+#?%20é[x]", "x::y")}


def zip_bytes(method: int = zipfile.ZIP_STORED, extra: bytes = b"") -> bytes:
    """An archive whose local headers have extra fields that its listing does not have."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in CONTENTS.items():
            info = zipfile.ZipInfo(name)
            info.compress_type, info.extra = method, extra
            archive.writestr(info, content)
            info.extra = b""
    return file.getvalue()


def tar_bytes() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in CONTENTS.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


ARCHIVES = {
    "stored.zip": zip_bytes(),
    "deflated.zip": zip_bytes(zipfile.ZIP_DEFLATED),
    "padded.zip": zip_bytes(extra=b"\x99\x99\xe8\x03" + bytes(1000)),
    "plain.tar": tar_bytes(),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_members_are_read_in_place(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(ARCHIVES[name])
    uris = [member_uri(str(tmp_path / name), member) for member in [*CONTENTS, "none.jpg"]]
    *whole, none = read_heads(uris, limit=10_000)
    assert whole == list(CONTENTS.values())
    assert isinstance(none, FileNotFoundError)
    assert read_heads(uris, limit=7)[:-1] == [content[:7] for content in CONTENTS.values()]


def test_the_listing_is_read_once_until_the_archive_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    reader = archives._zip_members
    monkeypatch.setattr(archives, "_zip_members", lambda file: read.append(1) or reader(file))
    file = tmp_path / "a.zip"
    file.write_bytes(ARCHIVES["stored.zip"])
    for _ in range(3):
        assert read_heads([member_uri(str(file), "images/1.jpg")] * 2, 3) == [b"cut"] * 2
    assert len(read) == 1
    file.write_bytes(ARCHIVES["deflated.zip"])
    assert read_heads([member_uri(str(file), "images/1.jpg")], 3) == [b"cut"]
    assert len(read) == 2


@pytest.mark.parametrize("name", ["deflated.zip", "plain.tar"])
def test_each_member_on_s3_costs_one_request(s3: S3, name: str) -> None:
    s3.put(name, ARCHIVES[name])
    uris = [member_uri(f"{s3.uri}/{name}", member) for member in CONTENTS]
    assert read_heads(uris, 10_000) == list(CONTENTS.values())
    s3.proxy.forget()
    assert read_heads(uris, 10_000) == list(CONTENTS.values())
    assert s3.proxy.asked(name) == ["HEAD", *["GET"] * len(uris)]
    over_http = member_uri(f"{s3.http_url}/{name}", next(iter(CONTENTS)))
    assert read_heads([over_http], 5) == [b"cutou"]


def test_a_server_without_ranges_is_refused(s3: S3) -> None:
    s3.put("a.tar", ARCHIVES["plain.tar"])
    uri = member_uri(f"{s3.http_url}/a.tar", "images/1.jpg")
    assert read_heads([uri], 5) == [b"cutou"]
    s3.proxy.fail("a.tar", "whole")
    (error,) = read_heads([uri], 5)
    assert isinstance(error, InputError)
    assert "sends no parts of a file" in str(error)


def test_damaged_members_say_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    file.write_bytes(ARCHIVES["stored.zip"].replace(b"cutout 1", b"cutout 2", 1))
    (error,) = read_heads([member_uri(str(file), "images/1.jpg")], 10_000)
    assert isinstance(error, DamagedMemberError)
    assert "checksum" in str(error)
    file.write_bytes(ARCHIVES["stored.zip"][:-30])
    with pytest.raises(DamagedMemberError, match="not a complete zip archive"):
        open_archive("zip", str(file))


def test_only_uncompressed_tars_are_archives() -> None:
    assert is_archive("s3://b/Images.ZIP")
    assert not is_archive("images")
    with pytest.raises(InputError, match="unpack it, or make a zip"):
        is_archive("images.tar.gz")


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("zip://a/b.jpg::s3://b/x.zip", ("zip", "a/b.jpg", "s3://b/x.zip")),
        ("tar://x::y.jpg::/d/x.tar", ("tar", "x::y.jpg", "/d/x.tar")),
        ("zip://a.jpg::simplecache::s3://b/x.zip", ("zip", "a.jpg", "simplecache::s3://b/x.zip")),
        ("simplecache::s3://b/a.jpg", None),
        ("/d/a::b.jpg", None),
    ],
)
def test_parts_of_a_member_uri(uri: str, parts: tuple[str, str, str] | None) -> None:
    assert split_member_uri(uri) == parts
