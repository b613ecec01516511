import hashlib
import io
from datetime import UTC, datetime

import pytest

from galaxy_batch.errors import InputError
from galaxy_batch.verdicts.records import MALFORMED, HashedStream, parse_time, read_csv_records


def records_of(text: str) -> list[tuple[int, dict[str, object]]]:
    return [(line, dict(content)) for line, content in read_csv_records(HashedStream(io.BytesIO(text.encode())))]


def test_records_have_the_number_of_their_first_line() -> None:
    text = '\ufeffa,b\r\n1,"two\r\nlines"\r\n\r\n2,"x,""y"""\r\n'
    assert records_of(text) == [(2, {"a": "1", "b": "two\r\nlines"}), (5, {"a": "2", "b": 'x,"y"'})]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters_of_spreadsheets(delimiter: str) -> None:
    assert records_of(f"a{delimiter}b\n1{delimiter}2\n") == [(2, {"a": "1", "b": "2"})]


def test_a_line_that_does_not_fit_is_one_record() -> None:
    assert records_of('a,b\n1\n1,2,3\n"x"y,2\n3,4\n') == [
        (2, {MALFORMED: ["1"]}),
        (3, {MALFORMED: ["1", "2", "3"]}),
        (4, {MALFORMED: ["',' expected after '\"'"]}),
        (5, {"a": "3", "b": "4"}),
    ]


def test_a_file_that_is_not_complete_is_refused() -> None:
    with pytest.raises(InputError, match="begins at line 3: the file is not complete"):
        records_of('a,b\n1,2\n3,"[{')
    with pytest.raises(InputError, match="is not UTF-8"):
        list(read_csv_records(HashedStream(io.BytesIO(b"a,b\n1,\xff\n"))))


def test_large_fields_are_read() -> None:
    assert len(str(records_of(f"a,b\n1,{'x' * 300_000}\n")[0][1]["b"])) == 300_000


def test_the_hash_is_that_of_the_whole_file() -> None:
    content = b"a,b\n" + b"1,2\n" * 100_000
    stream = HashedStream(io.BytesIO(content))
    stream.read(10)
    assert stream.sha256() == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-26T18:00:01Z", datetime(2026, 11, 26, 18, 0, 1, tzinfo=UTC)),
        ("2026-11-26T19:00:01+01:00", datetime(2026, 11, 26, 18, 0, 1, tzinfo=UTC)),
        ("2026-11-26 18:00:01 UTC", datetime(2026, 11, 26, 18, 0, 1, tzinfo=UTC)),
        ("26/11/2026 18:00", None),
        ("", None),
        (None, None),
        (5, None),
    ],
)
def test_times(text: object, time: datetime | None) -> None:
    assert parse_time(text) == time
