"""The first pass of a publication: rows in the sky's order, and counted."""

import json
import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from galaxy_batch.catalog.sort_parts import sort_parts
from tests.support.skies import (
    run_in_order,
    sky_rows,
    write_parts,
    write_unsorted_parts,
)

ROWS = 3000


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return sky_rows(ROWS, seed=9, without_position=0.1)


def test_a_part_with_other_rows_publishes_nothing(rows: pa.Table, tmp_path: Path) -> None:
    places, sizes = write_unsorted_parts(tmp_path, rows)
    write_parts(tmp_path / "parts", rows.slice(0, 499), 500)  # a part that lost a row
    with pytest.raises(RuntimeError, match=r"part 0 of .* has 499 rows, not 500; nothing was published"):
        sort_parts(places, sizes, run_in_order)


def test_the_survey_counts_what_the_gate_needs(rows: pa.Table, tmp_path: Path) -> None:
    places, sizes = write_unsorted_parts(tmp_path, rows)
    survey = sort_parts(places, sizes, run_in_order, 900)
    assert survey.rows == ROWS == survey.histogram.sum()
    assert survey.runs == 6
    assert survey.statuses == Counter(rows["status"].to_pylist())
    assert survey.flagged == sum(rows["needs_review"].to_pylist())
    assert json.dumps(sorted(os.listdir(tmp_path / "exchange"))).count("arrow") == 12
