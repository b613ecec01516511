"""Members of zip and tar archives, read in place: `zip://MEMBER::ARCHIVE` and `tar://MEMBER::ARCHIVE`.

The listing of an archive is read once per process; each member is then one ranged read of the archive. A tar has no
listing of its own, so all of its headers are read: on an object store, the whole archive.
"""

import functools
import re
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from fsspec.implementations.local import LocalFileSystem

from galaxy_batch.errors import InputError
from galaxy_batch.storage.drivers import filesystem

__all__ = [
    "Archive",
    "ArchiveMember",
    "ArchiveUri",
    "DamagedMemberError",
    "file_version",
    "is_archive",
    "member_uri",
    "open_archive",
    "split_member_uri",
]

# A member's name may contain "::"; the archive's URI only after names of fsspec's caches, e.g. simplecache::s3://b/x.
_MEMBER = re.compile(r"(zip|tar)://(.+?)::((?:[a-z0-9]+::)*(?:(?!::).)+)", re.DOTALL)
_KINDS = {".zip": "zip", ".tar": "tar"}
_COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_VERSIONS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created")
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip member: signature, length of name, length of extra fields
_SLACK = 64  # bytes by which extra fields are usually longer there than in the listing
_ENCRYPTED = 1
_OPEN_ARCHIVES = 8  # listings in the memory of a process


class DamagedMemberError(ValueError):
    """A member of an archive that cannot be extracted: damaged, encrypted, or compressed by an unusual method."""


class ArchiveUri(NamedTuple):
    """The parts of `zip://MEMBER::ARCHIVE`."""

    kind: str
    member: str
    archive: str


class ArchiveMember(NamedTuple):
    """One file of an archive."""

    start: int
    """Offset in the archive: of the local header in a zip, of the content in a tar."""
    header: int
    """Expected length of the local header, in bytes."""
    stored: int
    """Length in the archive, in bytes."""
    size: int
    """Length of the content, in bytes."""
    crc: int
    method: int
    """Compression method of a zip; 0 is none, negative is encrypted."""


@dataclass(frozen=True)
class Archive:
    """The listing of one archive, about 200 bytes per member."""

    kind: str
    names: tuple[str, ...]
    members: npt.NDArray[np.int64]
    """``(N, 6)``: fields of `ArchiveMember`."""
    versions: npt.NDArray[np.int64]
    """``(N,)``: checksum of each member of a zip, time of change of each member of a tar."""
    positions: dict[str, int]

    def member(self, name: str) -> ArchiveMember | None:
        """The member of this name, the last of several; None if there is none."""
        position = self.positions.get(name)
        return None if position is None else ArchiveMember(*self.members[position].tolist())

    def span(self, member: ArchiveMember, limit: int) -> tuple[int, int]:
        """First byte and end of what to read of the archive for `limit` bytes of a member."""
        if self.kind == "tar":
            return member.start, member.start + min(member.size, limit)
        needed = member.stored if member.method else min(member.stored, limit)
        return member.start, member.start + member.header + min(needed, limit + limit // 1000 + 64)

    def shortage(self, member: ArchiveMember, raw: bytes) -> int:
        """Bytes of the local header beyond its expected length, by which a read of `span` was too short."""
        if self.kind == "tar" or len(raw) < _LOCAL_HEADER.size:
            return 0
        return max(0, _content_start(raw) - member.header)

    def content(self, member: ArchiveMember, raw: bytes, limit: int) -> bytes:
        """At most `limit` bytes of a member's content, from the bytes that were read.

        Raises:
            DamagedMemberError: it cannot be extracted.
        """
        if self.kind == "tar":
            return raw
        if member.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DamagedMemberError("encrypted" if member.method < 0 else f"zip compression method {member.method}")
        if len(raw) < _LOCAL_HEADER.size or not raw.startswith(b"PK\x03\x04"):
            raise DamagedMemberError("no header of a zip member where the archive's listing says")
        stored = raw[_content_start(raw) :][: member.stored]
        try:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(stored, limit) if member.method else stored[:limit]
        except zlib.error as error:
            raise DamagedMemberError(str(error)) from None
        if len(content) < limit and (len(content), zlib.crc32(content)) != (member.size, member.crc):
            raise DamagedMemberError("wrong length or checksum in the archive")
        return content


def is_archive(uri: str) -> bool:
    """Whether the name is that of a zip or tar.

    Raises:
        InputError: it is that of a compressed tar, whose members cannot be read without all that are before them.
    """
    if uri.lower().endswith(_COMPRESSED_TARS):
        raise InputError("uri", uri, "a compressed tar cannot be read in place: unpack it, or make a zip of the images")
    return uri.lower().endswith(tuple(_KINDS))


def member_uri(archive: str, name: str) -> str:
    """The URI of a member of an archive."""
    return f"{_KINDS[archive.lower()[-4:]]}://{name}::{archive}"


def split_member_uri(uri: str) -> ArchiveUri | None:
    """The parts of `zip://MEMBER::ARCHIVE` or `tar://MEMBER::ARCHIVE`; None for another URI."""
    match = _MEMBER.fullmatch(uri)
    return ArchiveUri(*match.groups()) if match else None


def open_archive(kind: str, uri: str) -> Archive:
    """The listing of an archive, kept in memory until the archive changes.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedMemberError: it is no archive of this kind.
    """
    fs, path = filesystem(uri)
    info = fs.info(path)
    return _read(kind, uri, str(info.get("size")), file_version(info))


def file_version(info: dict[str, Any]) -> str:
    """What the store says about the version of a file: entity tag, checksum or time of change; empty if nothing."""
    return next((str(info[name]) for name in _VERSIONS if info.get(name) is not None), "")


@functools.lru_cache(maxsize=_OPEN_ARCHIVES)
def _read(kind: str, uri: str, size: str, version: str) -> Archive:  # noqa: ARG001 - of the file that was read
    fs, path = filesystem(uri)
    options = {} if isinstance(fs, LocalFileSystem) else {"cache_type": "readahead"}
    try:
        with fs.open(path, "rb", **options) as file:
            names, members, versions = _zip_members(file) if kind == "zip" else _tar_members(file)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise DamagedMemberError(f"not a complete {kind} archive: {error}") from None
    positions = {name: position for position, name in enumerate(names)}
    return Archive(kind, names, np.array(members, np.int64).reshape(-1, 6), np.array(versions, np.int64), positions)


def _zip_members(file: Any) -> tuple[tuple[str, ...], list[ArchiveMember], list[int]]:
    with zipfile.ZipFile(file) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
    members = [
        ArchiveMember(
            info.header_offset,
            30 + len(info.orig_filename.encode()) + len(info.extra) + _SLACK,
            info.compress_size,
            info.file_size,
            info.CRC,
            -1 if info.flag_bits & _ENCRYPTED else info.compress_type,
        )
        for info in infos
    ]
    return tuple(info.filename for info in infos), members, [info.CRC for info in infos]


def _tar_members(file: Any) -> tuple[tuple[str, ...], list[ArchiveMember], list[int]]:
    names, members, versions = [], [], []
    with tarfile.TarFile(fileobj=file) as archive:
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined] # else it keeps a kilobyte of each
            if info.isreg() and not info.issparse():
                names.append(info.name)
                members.append(ArchiveMember(info.offset_data, 0, info.size, info.size, 0, 0))
                versions.append(int(info.mtime))
    return tuple(names), members, versions


def _content_start(raw: bytes) -> int:
    _, name, extra = _LOCAL_HEADER.unpack_from(raw)
    return int(_LOCAL_HEADER.size + name + extra)
