import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.compare.catalog_columns import read_columns
from galaxy_batch.export.config import ExportConfig
from galaxy_batch.export.export import export_catalog
from galaxy_batch.release_page.counts import count_release
from galaxy_batch.runtime import progress
from galaxy_batch.runtime.progress import CLEAR_LINE, Progress, Stopwatch, with_progress
from tests.support.repository import REPOSITORY
from tests.support.skies import publish_rows, sky_rows


def test_a_log_line_after_the_first_chunk_at_intervals_and_at_the_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    counter = Progress(total=4000, done=1000, every_s=5)
    with caplog.at_level(logging.INFO):
        for seconds in (2, 4, 10):
            clock[0] = seconds
            counter.add(1000, failed=1, flagged=20)
    assert [record.message for record in caplog.records] == [
        "2,000 of 4,000 galaxies (50%); this run: 1 failed, 20 flagged",
        "3,000 of 4,000 galaxies (75%), 500.0 per second, 2s left; this run: 2 failed, 40 flagged",
        "4,000 of 4,000 galaxies (100%), 250.0 per second, 0s left; this run: 3 failed, 60 flagged",
    ]


def test_a_terminal_shows_one_line_that_is_redrawn() -> None:
    """In another process, whose stderr is a real terminal."""
    script = """
import logging
import re
from galaxy_batch.runtime.progress import Progress
logging.basicConfig(level=logging.INFO)
counter = Progress(total=300, done=0, every_s=0.1)
counter.add(100, 1, 2)
counter.add(200, 0, 0)
"""
    ours, theirs = os.openpty()
    process = subprocess.run([sys.executable, "-c", script], stderr=theirs, cwd=REPOSITORY, check=False, timeout=60)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert process.returncode == 0, shown
    first, second, third = shown.split(CLEAR_LINE)
    assert first == ""
    assert second.startswith("100 of 300 galaxies (33%)")
    assert "\n" not in second
    assert third.startswith("300 of 300 galaxies (100%)")
    assert third.endswith("1 failed, 2 flagged\r\n")


def test_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    counter = Progress(total=100_000, done=0, every_s=5)
    assert str(counter) == "0 of 100,000 galaxies (0%); this run: 0 failed, 0 flagged"
    assert counter.seconds_left is None
    clock[0] = 60  # most of it the start of Ray
    counter.add(100, 0, 0)
    assert counter.seconds_left is None
    clock[0] = 70
    counter.add(100, 0, 0)
    assert "10.0 per second, 2h46m left" in str(counter)
    assert all(character.isprintable() for character in str(counter))


def test_the_rate_does_not_include_the_start_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    counter = Progress(total=1000, done=0, every_s=5, workers=2)
    for seconds, known in ((30, None), (31, None), (36, 20.0), (41, 20.0)):
        clock[0] = seconds
        counter.add(100, 0, 0)
        assert counter.steady_rate == known
    assert "20.0 per second, 30s left" in str(counter)


def test_rows_of_unfinished_chunks_are_reported_at_intervals(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_MEASURED_S", 0.1)
    counter = Progress(total=1000, done=0, every_s=0.05)
    rows = iter([*range(100, 1000, 50), *[950] * 10_000])
    with caplog.at_level(logging.INFO), counter.following(lambda: next(rows)):
        while len(caplog.records) < 6:
            time.sleep(0.01)
    messages = [record.message for record in caplog.records]
    shown = [int(message.split()[0]) for message in messages]
    assert shown == sorted(shown)
    assert 0 < shown[0] < shown[-1] <= 950
    assert "per second" not in messages[0]
    assert "per second" in messages[-1]
    assert messages[-1].endswith(" left; this run: 0 failed, 0 flagged")
    counter.add(900, 0, 0)
    counter.add(100, 0, 0)
    assert str(counter).startswith("1,000 of 1,000 galaxies (100%)")


def test_times_of_one_step_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    steps = Stopwatch()

    def fail_after(seconds: float) -> None:
        with steps.measure("publish"):
            clock[0] += seconds
            raise ValueError("broken")

    for seconds in (2, 3):
        with pytest.raises(ValueError, match="broken"):
            fail_after(seconds)
    assert steps.seconds == {"publish": 5.0}


def test_a_long_step_logs_its_progress_at_intervals(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with caplog.at_level(logging.INFO):
        for batch in with_progress([b"x" * 50] * 20, "describing", 1000):
            assert len(batch) == 50
            clock[0] += 4
    assert [record.message for record in caplog.records][:2] == [
        "describing: 150 of 1,000 galaxies, 12.5 per second, 1m08s left",
        "describing: 300 of 1,000 galaxies, 12.5 per second, 56s left",
    ]
    assert len(caplog.records) == 6, "none at the end"


def test_the_steps_over_the_files_of_a_large_catalog_log_their_progress(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_STEP_EVERY_S", 0)
    caplog.set_level(logging.INFO)
    catalog = str(publish_rows(tmp_path, sky_rows(700, seed=1), 100, 90, 250))
    manifest = require_manifest(catalog)
    assert verify_catalog(catalog) == []
    count_release(catalog, manifest, sample_rows=1, seed=0)
    read_columns("old_uri", catalog, manifest, manifest.classes)
    export_catalog(ExportConfig(catalog, str(tmp_path / "all.csv")))
    steps = [
        match for record in caplog.records if (match := re.match(r"(\w+): (\d+) of 700 galaxies, ", record.message))
    ]
    assert list(dict.fromkeys(step[1] for step in steps)) == [
        "sorting",
        "publishing",
        "verifying",
        "counting",
        "reading",
    ]
    assert all(0 < int(step[2]) < 700 for step in steps)
