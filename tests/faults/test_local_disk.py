"""Output on a local disk: the driver or the publishing process dies."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog.manifest import read_manifest
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.synthetic.survey import SurveyFiles
from tests.faults.experiment import CONFIG, RECORDS, Job, Record
from tests.support.models import SavedModel
from tests.support.repository import REPOSITORY
from tests.support.skies import (
    catalog_contents,
    publish_rows,
    read_catalog,
    sky_rows,
    write_unsorted_parts,
)

pytestmark = [pytest.mark.faults, pytest.mark.timeout(500)]


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return sky_rows(3000, seed=9, without_position=0.1)


PUBLISHER = """
import sys
import pyarrow.parquet as pq
from galaxy_batch.catalog.sort_parts import sort_parts
from tests.support.skies import layout_in, publish_sorted, run_in_order
rows = pq.read_table(sys.argv[1] + "/rows.parquet")
layout = layout_in(sys.argv[1])
publish_sorted(layout, sort_parts(layout, [500] * (len(rows) // 500), run_in_order, 1000), rows)
"""


def test_a_killed_publication_leaves_no_catalog_and_the_next_one_is_complete(rows: pa.Table, tmp_path: Path) -> None:
    layout, _ = write_unsorted_parts(tmp_path, rows)
    catalog = Path(layout.catalog)
    pq.write_table(rows, tmp_path / "rows.parquet")
    moments = {
        "a run": lambda: list(Path(layout.sorted_runs).glob("rows-*")),
        "a file": lambda: list(catalog.glob("dataset/**/Npix=*")),
        "the metadata": lambda: list(catalog.glob("hats.properties")),
    }
    for seen in moments.values():
        process = subprocess.Popen([sys.executable, "-c", PUBLISHER, str(tmp_path)], cwd=REPOSITORY)
        while not seen() and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (catalog / "manifest.json").exists():  # published before it was killed
            assert verify_catalog(layout.catalog) == []
            os.unlink(catalog / "manifest.json")
        assert read_manifest(layout.catalog) is None
    subprocess.run([sys.executable, "-c", PUBLISHER, str(tmp_path)], cwd=REPOSITORY, check=True)
    assert verify_catalog(layout.catalog) == []
    whole = publish_rows(tmp_path / "whole", rows, 500, 400)
    assert catalog_contents(catalog) == catalog_contents(whole)


def test_finished_parts_survive_the_driver(survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path) -> None:
    """After each kill there is no catalog, and existing parts are not written again."""
    file, output = tmp_path / "catalog.toml", tmp_path / "out"
    file.write_text(CONFIG.format(output=output, checkpoint=saved_model.uri, manifest=survey.manifest))
    rng, before, ended, runs = random.Random(6), dict[Path, int](), list[int](), list[Job]()

    def parts() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in output.rglob("part-*.parquet")}

    try:
        for wanted in sorted(rng.sample(range(4, 18), 2)):
            runs.append(
                Job(
                    ["-m", "jobs.build_catalog", str(file), "--set", "classify.chunk_rows=2"],
                    {},
                    tmp_path,
                    f"run{wanted}",
                )
            )
            deadline = time.monotonic() + 120
            while len(parts()) < wanted and time.monotonic() < deadline:
                time.sleep(0.01)
            runs[-1].kill_driver()
            ended.append(runs[-1].end().code)
            runs[-1].kill_all()
            assert ended[-1] == -signal.SIGKILL
            assert not list(output.rglob("manifest.json"))
            written = parts()
            assert wanted <= len(written) < 20
            assert {path: written[path] for path in before} == before
            before = written
        runs.append(
            Job(["-m", "jobs.build_catalog", str(file), "--set", "classify.chunk_rows=2"], {}, tmp_path, "last")
        )
        last = runs[-1].end()
    finally:
        for job in runs:
            job.kill_all()
    assert last.code == 0, last.stderr
    assert last.summary is not None
    assert last.summary["computed_rows"] == 40 - 2 * len(before)
    assert verify_catalog(last.summary["catalog_uri"]) == []
    ids = read_catalog(last.summary["catalog_uri"])["object_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 40
    written = parts()
    assert {path: written[path] for path in before} == before
    assert not [path for path in output.rglob("exchange/**/*") if path.is_file()], "the runs of the publication"
    codes = ", ".join(map(str, [*ended, last.code]))
    RECORDS.append(
        Record(
            "kill -9 of the driver, output on a local disk",
            2,
            40 - len(set(ids)),
            len(ids) - len(set(ids)),
            0,
            0,
            codes,
        )
    )
