"""CSV and TSV tables as archives write them: comment lines, units below the names, other delimiters and encodings."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.agreed_types import INFERRED
from galaxy_batch.inputs.columns import check_columns, kept_columns, text_columns, wanted_columns
from galaxy_batch.inputs.positions import declare, frame_name

__all__ = ["is_ecsv", "read_delimited"]

_HEAD_BYTES = 1 << 20  # comments and names are expected in these
_BLOCK_BYTES = 32 << 20  # a row may not be longer
_DELIMITERS = (",", "\t", ";", "|")
_OTHER_FORMATS = (b"<", b"[{", b'{"', b"SIMPLE  =", b"PAR1", b"\x1f\x8b", b"BZh", b"PK\x03\x04")
_BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_LINE_BREAK = re.compile(r"\r\n|\n|\r")
_COOSYS = re.compile(r"#\s*Coosys\s+[^:]*:\s*(\w+)(?:\s+(\S+))?", re.IGNORECASE)  # of VizieR
_NULLS = pa.array(pyarrow.csv.ConvertOptions().null_values)
_LEADING_ZEROS = r"^[+-]?0[0-9]+$|^[+-]?0[xX]"
_INTEGER = "^-?[0-9]+$"
_BEYOND_FLOAT = "^[+-]?[0-9]{16,}$"  # may be above 2**53
_SAMPLE_ROWS = 10_000


@dataclass(frozen=True)
class _Layout:
    """How a file is to be read."""

    names: tuple[str, ...]
    delimiter: str
    encoding: str
    skipped_lines: int
    """Before the first row."""
    units: tuple[str, ...] = ()
    frame: str = ""
    padded: bool = False
    """Blanks around values do not belong to them."""
    commented: bool = False
    """Lines that begin with `#` are comments."""


def is_ecsv(head: bytes) -> bool:
    """Whether a file begins as an ECSV table."""
    return head.lstrip(b"\xef\xbb\xbf").startswith(b"# %ECSV")


def read_delimited(file: IO[bytes], uri: str, config: ManifestConfig, delimiter: str) -> pa.Table:
    """The wanted columns of a CSV or TSV table.

    Ids and parts of URIs are integers where every value is one that keeps its spelling, else text. Kept columns are
    numbers, dates or text, whichever keeps every value exactly, whatever the size of the file. Others are text.

    Raises:
        InputError: a column is missing, or a line has another number of values than there are names.
    """
    layout = _layout(file.read(_HEAD_BYTES), uri, config, delimiter)
    check_columns(layout.names, config, uri)
    file.seek(0)
    table = _read(file, uri, layout, wanted_columns(config))
    kept = set(kept_columns(config).values())
    columns, fields = [], []
    for name in wanted_columns(config):
        column = table[name]
        if name in text_columns(config):
            column = _integers_if_exact(column)
        elif name in kept and name != config.image_column:
            column = _typed(column)
        unit = dict(zip(layout.names, layout.units, strict=False)).get(name, "")
        columns.append(column)
        field = pa.field(name, column.type, metadata={INFERRED: b"true"})
        fields.append(declare(field, {"unit": unit, "frame": layout.frame}))
    return pa.table(columns, schema=pa.schema(fields))


def _layout(head: bytes, uri: str, config: ManifestConfig, delimiter: str) -> _Layout:
    """Find the line of the column names: the one that has all columns that the config names."""
    encoding = _encoding(head)
    text = head.decode(encoding, "replace").removeprefix("\ufeff")
    if head.startswith(_OTHER_FORMATS) or "\0" in text:
        raise InputError("manifest.uri", uri, f"begins with {head[:24]!r}: not a CSV table")
    lines = _LINE_BREAK.split(text)
    first = next((n for n, line in enumerate(lines) if not _is_comment(line)), None)
    if first is None:
        raise InputError("manifest.uri", uri, "has no line of column names: it is empty, or all of it is comments")
    comments = [n for n in range(first) if lines[n].startswith("#")]
    candidates = [0, first, *comments[-1:]]
    delimiters = [delimiter, *(d for d in _DELIMITERS if d != delimiter)]
    wanted = set(wanted_columns(config))
    for number in dict.fromkeys(candidates):
        for mark in delimiters:
            for names in _spellings(lines[number], mark):
                if wanted <= set(names):
                    return _complete(lines, number, names, mark, encoding)
    mark = max(delimiters, key=lambda d: len(_split(lines[first], d)))
    return _complete(lines, first, [name.strip() for name in _split(lines[first], mark)], mark, encoding)


def _complete(lines: Sequence[str], number: int, names: Sequence[str], delimiter: str, encoding: str) -> _Layout:
    """The layout of a file whose names are on this line; below them, VizieR has units and a line of dashes."""
    below = [n for n in range(number + 1, len(lines)) if lines[n].strip()][:2]
    dashes = next((n for n in below if _is_rule(lines[n], delimiter)), None)
    units = _split(lines[below[0]], delimiter) if dashes is not None and dashes != below[0] else []
    frames = {frame_name(*match.groups()) for line in lines[:number] if (match := _COOSYS.match(line))}
    return _Layout(
        names=tuple(names),
        delimiter=delimiter,
        encoding=encoding,
        skipped_lines=(number if dashes is None else dashes) + 1,
        units=tuple(unit.strip() for unit in units),
        frame=frames.pop() if len(frames) == 1 else "",
        padded=dashes is not None or list(names) != _split(lines[number].removeprefix("#"), delimiter),
        commented=any(line.startswith("#") for line in lines[: number + 1]) and not names[0].startswith("#"),
    )


def _read(file: IO[bytes], uri: str, layout: _Layout, wanted: Sequence[str]) -> pa.Table:
    """The wanted columns as text."""
    wrong: list[pyarrow.csv.InvalidRow] = []

    def keep_or_skip(row: pyarrow.csv.InvalidRow) -> str:
        if (layout.commented and row.text.startswith("#")) or not row.text.strip():
            return "skip"
        wrong.append(row)
        return "error"

    names = [name if name in wanted else f"column {n}" for n, name in enumerate(layout.names)]
    names[0] = layout.names[0]
    read = list(dict.fromkeys([names[0], *wanted]))  # the first tells comments
    for threads in (True, False):  # only one thread knows the number of a line
        try:
            table = pyarrow.csv.read_csv(
                file,
                pyarrow.csv.ReadOptions(
                    use_threads=threads, block_size=_BLOCK_BYTES, skip_rows=layout.skipped_lines, column_names=names,
                    encoding="utf8" if layout.encoding == "utf-8" else layout.encoding,
                ),
                pyarrow.csv.ParseOptions(
                    delimiter=layout.delimiter, newlines_in_values=True, invalid_row_handler=keep_or_skip
                ),
                pyarrow.csv.ConvertOptions(
                    include_columns=read, column_types=dict.fromkeys(read, pa.string()), strings_can_be_null=True,
                ),
            )  # fmt: skip
        except pa.ArrowInvalid as error:
            if not wrong:
                raise InputError("manifest.uri", uri, f"cannot be read as CSV: {_named(str(error), read)}") from None
            file.seek(0)
            continue
        return _tidy(table, layout, uri, id_column=wanted[0])
    line = next((row for row in wrong if row.number is not None), wrong[0])
    raise InputError(
        "manifest.uri",
        uri,
        f"line {line.number} has {line.actual_columns} values, not {line.expected_columns}: {line.text[:80]!r}",
    )


def _tidy(table: pa.Table, layout: _Layout, uri: str, id_column: str) -> pa.Table:
    """Without rows that are comments, and without blanks around values where those are padding.

    Raises:
        InputError: some ids begin with `#`, and nothing says whether those rows are comments.
    """
    comments = pc.starts_with(table[0], "#").fill_null(False)
    count = pc.sum(comments).as_py() or 0
    if layout.commented and count:
        table = table.filter(pc.invert(comments))
    elif 0 < count < len(table) and table.column_names[0] == id_column:
        first = table[0].filter(comments)[0].as_py()
        remedy = f"{count} rows begin with '#', the first with {first!r}: comments are read only above the column names"
        raise InputError("manifest.uri", uri, remedy)
    if not layout.padded:
        return table
    columns = [pc.utf8_trim_whitespace(column) for column in table.columns]
    nulls = [pc.is_in(column, _NULLS) for column in columns]
    return pa.table([pc.if_else(n, None, c) for n, c in zip(nulls, columns, strict=True)], names=table.column_names)


def _typed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text as integers, floats, booleans, dates or times, if every value is one and stays exact."""
    if column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column))])
    texts = pc.utf8_trim_whitespace(column)
    if _any(texts, _LEADING_ZEROS):
        return column
    if not _any(texts, _INTEGER, otherwise=True):
        try:
            return texts.cast(pa.int64())
        except pa.ArrowInvalid:
            return column
    if _any(texts, _BEYOND_FLOAT) or pa.types.is_string(_inferred(column.slice(0, _SAMPLE_ROWS)).type):
        return column
    return _inferred(column)


def _any(texts: pa.ChunkedArray, pattern: str, otherwise: bool = False) -> bool:
    """Whether any value matches the pattern; with `otherwise`, whether any does not."""
    matches = pc.match_substring_regex(texts, pattern)
    return bool(pc.any(pc.invert(matches) if otherwise else matches, min_count=0).as_py())


def _inferred(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column with the type that pyarrow infers from all of it."""
    sink = io.BytesIO()
    pyarrow.csv.write_csv(pa.table({"": column}), sink, pyarrow.csv.WriteOptions(include_header=False))
    return pyarrow.csv.read_csv(
        pa.BufferReader(sink.getvalue()),
        pyarrow.csv.ReadOptions(block_size=max(1024, sink.tell() + 1), column_names=[""]),
        pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        pyarrow.csv.ConvertOptions(strings_can_be_null=True),
    )[0]


def _integers_if_exact(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """int64 if every value keeps its spelling; `007`, `+5`, ` 5` and numbers above 2**63 - 1 stay text."""
    try:
        integers = column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column
    return integers if integers.cast(pa.string()).equals(column) else column


def _encoding(head: bytes) -> str:
    if head[:2] in _BYTE_ORDER_MARKS:
        return _BYTE_ORDER_MARKS[head[:2]]
    nulls = head[:512].count(0)
    if nulls * 3 > len(head[:512]):  # UTF-16 without a mark: every second byte of ASCII text is 0
        return "utf-16-be" if head[:1] == b"\0" else "utf-16-le"
    return "utf-8"


def _is_comment(line: str) -> bool:
    return not line.strip() or line.startswith(("#", "sep="))


def _is_rule(line: str, delimiter: str) -> bool:
    return all(re.fullmatch(r"-+", part.strip()) for part in line.split(delimiter))


def _spellings(line: str, delimiter: str) -> Iterable[list[str]]:
    """Names on a line: as they are, without blanks, and without a `#` before them."""
    names = _split(line, delimiter)
    yield names
    yield [name.strip() for name in names]
    yield [name.strip() for name in _split(line.removeprefix("#"), delimiter)]


def _split(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def _named(message: str, read: Sequence[str]) -> str:
    """Pyarrow's message with the names of columns, which it counts."""
    return re.sub(r"column #(\d+)", lambda match: f"column {read[int(match[1])]!r}", message.splitlines()[0])
