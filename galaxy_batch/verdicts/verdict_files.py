"""The files of an import: their formats, their records, and what is kept of rejected ones."""

import codecs
import csv
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from galaxy_batch.errors import InputError
from galaxy_batch.storage.files import filesystem, without_secrets
from galaxy_batch.verdicts.config import Format, ImportConfig
from galaxy_batch.verdicts.label_studio import LabelStudioReader
from galaxy_batch.verdicts.objects import typed_id
from galaxy_batch.verdicts.page_csv import PageReader
from galaxy_batch.verdicts.records import (
    MALFORMED,
    Answer,
    HashedStream,
    Problem,
    RecordReader,
    UnusableRecord,
)
from galaxy_batch.verdicts.reviewers import Reviewers
from galaxy_batch.verdicts.words import Words
from galaxy_batch.verdicts.zooniverse import ZooniverseReader

__all__ = ["FileRecords", "Rejected", "read_file", "rejected_contents"]

logger = logging.getLogger(__name__)

_HEAD_BYTES = 1 << 16
_NEEDED: Mapping[Format, tuple[str, ...]] = {
    "page": ("object_id", "verdict"),
    "zooniverse": ("annotations", "subject_data"),
}


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that gives no verdict that counts."""

    record: int
    object_text: str | None
    problem: Problem
    reason: str


@dataclass
class FileRecords:
    """What a file holds."""

    uri: str
    format: Format
    sha256: str = ""
    records: list[int] = field(default_factory=list)
    """Number of each answer's record in the file."""
    ids: list[int | str] = field(default_factory=list)
    """The object of each answer, as the catalog has it."""
    answers: list[Answer] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    workflows: dict[str, int] = field(default_factory=dict)
    """Records of each Zooniverse workflow and version."""

    @property
    def name(self) -> str:
        """The URI without secrets."""
        return without_secrets(self.uri)


def read_file(uri: str, config: ImportConfig, words: Words, integers: bool) -> FileRecords:
    """Read all records of a file; of each, little more than its verdict stays in memory.

    Args:
        uri: of the file.
        config: format and what its reader needs.
        words: what answers mean.
        integers: whether the catalog's ids are 64-bit integers.

    Raises:
        InputError: there is no such file, its format is not known, or it is not complete.
    """
    with _opened(uri) as stream:
        head = stream.read(_HEAD_BYTES)
    kind = _format_of(uri, head) if config.format == "auto" else config.format
    _check_columns(uri, kind, head)
    reader, read = _reader(kind, config, words), FileRecords(uri, kind)
    with _opened(uri) as stream, _naming(uri):
        hashed = HashedStream(stream)
        for number, content in reader.records(hashed):
            if "workflow_version" in content:
                version = f"{content.get('workflow_id', '')} {content['workflow_version']}"
                read.workflows[version] = read.workflows.get(version, 0) + 1
            try:
                if MALFORMED in content:
                    raise UnusableRecord(Problem.UNREADABLE, "its fields do not match the column names")
                answer = reader.answer(content)
                read.ids.append(typed_id(answer.object_text, integers))
                read.records.append(number)
                read.answers.append(answer)
            except UnusableRecord as bad:
                read.rejected.append(Rejected(number, bad.object_text, bad.problem, bad.reason))
        read.sha256 = hashed.sha256()
    logger.info("%s: %d records, %s", read.name, len(read.answers) + len(read.rejected), kind)
    return read


def rejected_contents(
    read: FileRecords, records: Sequence[int], config: ImportConfig, words: Words, reviewers: Reviewers
) -> dict[int, str | None]:
    """The rejected records of a file as JSON texts, by number, read from it again; people have their pseudonyms.

    A CSV line whose fields do not match the columns is kept only with the names of people: they may be anywhere in it.
    """
    wanted, reader = set(records), _reader(read.format, config, words)
    contents: dict[int, str | None] = {}
    if not wanted:
        return contents
    with _opened(read.uri) as stream, _naming(read.uri):
        for number, content in reader.records(HashedStream(stream)):
            if number in wanted:
                if reviewers.names:
                    contents[number] = json.dumps(content)
                elif MALFORMED in content:
                    contents[number] = None
                else:
                    contents[number] = json.dumps(reader.without_names(content, reviewers.called))
    return contents


def _reader(kind: Format, config: ImportConfig, words: Words) -> RecordReader:
    if kind == "page":
        return PageReader(words)
    return ZooniverseReader(words, config) if kind == "zooniverse" else LabelStudioReader(words, config)


def _format_of(uri: str, head: bytes) -> Format:
    """The format, by the first characters of a JSON or the column names of a CSV."""
    if not head:
        raise InputError("files", uri, "is empty")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError("files", uri, "is UTF-16, as spreadsheets save Unicode text: save it as CSV in UTF-8")
    text = head.decode("utf-8-sig", "replace").lstrip()
    if text.startswith(("[", "{")):
        return "label_studio"
    names = _column_names(text)
    for kind, needed in _NEEDED.items():
        if set(needed) <= set(names):
            return kind
    remedy = (
        "is neither a CSV of the review page (columns object_id, verdict), nor a Zooniverse classification export "
        f"(annotations, subject_data), nor Label Studio's JSON; it begins with {text[:80]!r}"
    )
    raise InputError("files", uri, remedy)


def _check_columns(uri: str, kind: Format, head: bytes) -> None:
    names = _column_names(head.decode("utf-8-sig", "replace"))
    missing = [name for name in _NEEDED.get(kind, ()) if name not in names]
    if missing:
        raise InputError("files", uri, f"has no column {missing[0]}, which a file of the format {kind} has")


def _column_names(text: str) -> list[str]:
    first = text.partition("\n")[0].partition("\r")[0]
    delimiter = max(",;\t", key=first.count)
    return [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]


@contextmanager
def _opened(uri: str) -> Iterator[Any]:
    fs, path = filesystem(uri)
    try:
        with fs.open(path, "rb") as stream:
            yield stream
    except IsADirectoryError:
        raise InputError("files", uri, "is a folder: name the files in it") from None
    except FileNotFoundError:
        raise InputError("files", uri, "no such file") from None


@contextmanager
def _naming(uri: str) -> Iterator[None]:
    """Errors about the content name the file."""
    try:
        yield
    except InputError as error:
        raise InputError(error.field, uri, error.remedy) from None
