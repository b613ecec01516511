"""Records of a file of verdicts: what was read, and why a record cannot be used."""

import csv
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, BinaryIO, Protocol

from galaxy_batch.errors import InputError

__all__ = [
    "MALFORMED",
    "Answer",
    "Content",
    "HashedStream",
    "Problem",
    "RecordReader",
    "UnusableRecord",
    "parse_time",
    "read_csv_records",
]

Content = Mapping[str, Any]
"""One record: its fields by name."""

MALFORMED = ""
"""Name of the only field of a CSV record whose fields do not match the column names: a list of texts."""

_MAX_FIELD = 1 << 28


class Problem(StrEnum):
    """Why a record is not a verdict that counts; also the keys of the counts."""

    UNREADABLE = "unreadable"
    DAMAGED_ID = "damaged_id"
    UNKNOWN_OBJECT = "unknown_object"
    OTHER_CATALOG = "other_catalog"
    OTHER_WORKFLOW = "other_workflow"
    UNKNOWN_VERDICT = "unknown_verdict"
    NO_ANSWER = "no_answer"
    SEVERAL_ANSWERS = "several_answers"
    CANCELLED = "cancelled"
    REPEATED = "repeated"
    CONTRADICTED = "contradicted"


class UnusableRecord(ValueError):  # noqa: N818 - as UnusableCutout
    """A record that gives no verdict.

    Args:
        problem: its kind.
        reason: one sentence, without names of people.
        object_text: id of the galaxy, as far as it is known.
    """

    def __init__(self, problem: Problem, reason: str, object_text: str | None = None) -> None:
        super().__init__(problem, reason, object_text)
        self.problem, self.reason, self.object_text = problem, reason, object_text


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person said about a galaxy, as one record has it."""

    object_text: str
    verdict: str
    reviewer: str
    """As given; empty where the file does not say."""
    time: datetime | None = None
    """UTC."""
    queue: str = ""
    release: str = ""
    model_id: str = ""


class RecordReader(Protocol):
    """One format of files with verdicts."""

    source: str
    """Its name in the tables."""

    def records(self, stream: io.RawIOBase) -> Iterator[tuple[int, Content]]:
        """The records of a file with the number of each: its line in a CSV, its place in a JSON."""

    def answer(self, content: Content) -> Answer:
        """The verdict of a record. Raises `UnusableRecord`."""

    def without_names(self, content: Content, pseudonym: Callable[[str], str]) -> Content:
        """The record with pseudonyms in place of everything that names a person."""


class HashedStream(io.RawIOBase):
    """A stream that computes the SHA-256 of what is read from it."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream, self._digest = stream, hashlib.sha256()

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; the number of bytes."""
        content = self._stream.read(len(buffer))
        self._digest.update(content)
        buffer[: len(content)] = content
        return len(content)

    def sha256(self) -> str:
        """Of the whole stream; reads what is left of it."""
        while self.read(1 << 20):
            pass
        return self._digest.hexdigest()


def read_csv_records(stream: io.RawIOBase, field: str = "files") -> Iterator[tuple[int, Content]]:
    """The records of a CSV in UTF-8 with column names, each with the number of its first line.

    The delimiter is that of the line of column names: `,`, `;` or tab. A record with more or fewer fields than columns,
    or with misplaced quotes, has the field MALFORMED only.

    Raises:
        InputError: the file is not UTF-8, or ends within a quoted field.
    """
    text = io.TextIOWrapper(io.BufferedReader(stream), "utf-8-sig", newline="")
    try:
        yield from _csv_records(text, field)
    except UnicodeDecodeError as error:
        raise InputError(field, "", f"is not UTF-8 ({error.reason}): save it with this encoding") from None


def _csv_records(text: io.TextIOWrapper, field: str) -> Iterator[tuple[int, Content]]:
    csv.field_size_limit(_MAX_FIELD)
    first = text.readline()
    delimiter = max(",;\t", key=first.count)
    names = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    rows = csv.reader(text, delimiter=delimiter, strict=True)
    while True:
        line = rows.line_num + 2
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                remedy = f"ends within the quoted field that begins at line {line}: the file is not complete"
                raise InputError(field, "", remedy) from None
            yield line, {MALFORMED: [str(error)]}
            continue
        if row:
            yield line, dict(zip(names, row, strict=True)) if len(row) == len(names) else {MALFORMED: row}


def parse_time(text: object) -> datetime | None:
    """A time as the formats write it (ISO 8601, or `2026-11-26 18:00:00 UTC`), in UTC; None where it is not one."""
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text.strip().removesuffix(" UTC"))
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
