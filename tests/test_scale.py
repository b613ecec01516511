"""Publication of millions of rows, in bounded memory."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.benchmark.memory import watch_memory
from tests.support.repository import REPOSITORY

ROWS = int(os.environ.get("GALAXY_BATCH_SCALE_ROWS", "3000000"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_millions_of_rows_are_published_in_bounded_memory(
    sky: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Memory does not grow with the rows: a task holds at most three sorted runs of a million rows."""
    positions = sky / "catalogs" / "dr7objid_radec.csv"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.scale", str(tmp_path), str(ROWS), str(positions)],
        cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with watch_memory(process.pid) as memory:
        output, _ = process.communicate()
    assert process.returncode == 0
    summary = json.loads(output.splitlines()[-1])
    record_property("scale", {**summary, "peak_bytes": memory.peak_bytes})
    assert summary["problems"] == []
    assert summary["rows"] == ROWS
    assert memory.peak_bytes["task"] < 2.5e9
    assert memory.peak_bytes["driver"] < 1.5e9
