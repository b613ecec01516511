from pathlib import Path

import pytest

from galaxy_batch.verdicts.config import ImportConfig
from galaxy_batch.verdicts.records import Problem
from galaxy_batch.verdicts.verdict_files import Rejected, read_file
from galaxy_batch.verdicts.words import Words
from tests.support.verdict_files import VERDICTS


@pytest.mark.parametrize(
    ("columns", "format"), [("object_id,verdict", "page"), ("annotations,subject_data", "zooniverse")]
)
def test_a_line_with_other_fields_than_the_columns_is_rejected(tmp_path: Path, columns: str, format: str) -> None:  # noqa: A002
    file = tmp_path / "verdicts.csv"
    file.write_text(f"{columns}\n5\n")
    config = ImportConfig(str(tmp_path), (str(file),))
    read = read_file(str(file), config, Words(VERDICTS, {}), integers=True)
    assert read.format == format
    assert read.rejected == [Rejected(2, None, Problem.UNREADABLE, "its fields do not match the column names")]
    assert not read.answers
