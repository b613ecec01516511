"""The first pass of a publication: rows in the sky's order, and counted."""

from pathlib import Path

import pyarrow as pa
import pytest

from galaxy_batch.catalog.counts import count_rows
from galaxy_batch.catalog.sort_parts import sort_parts
from galaxy_batch.runtime.tasks import run_in_order
from tests.support.skies import (
    sky_rows,
    write_parts,
    write_unsorted_parts,
)

ROWS = 3000


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return sky_rows(ROWS, seed=9, without_position=0.1)


def test_a_part_with_another_number_of_rows_publishes_nothing(rows: pa.Table, tmp_path: Path) -> None:
    layout, sizes = write_unsorted_parts(tmp_path, rows)
    write_parts(layout.parts, rows.slice(0, 499), 500)  # a part that lost a row
    with pytest.raises(RuntimeError, match=r"part 0 of .* has 499 rows, not 500; nothing was published"):
        sort_parts(layout, sizes, run_in_order)


def test_the_totals_are_those_of_the_rows(rows: pa.Table, tmp_path: Path) -> None:
    layout, sizes = write_unsorted_parts(tmp_path, rows)
    totals = sort_parts(layout, sizes, run_in_order, 900)
    assert totals.counts == count_rows(rows)
    assert totals.histogram.sum() == ROWS
    assert totals.runs == 6
    assert len(list(Path(layout.sorted_runs).iterdir())) == 12
