"""A real job with cutouts that crash or hang the process that reads them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest

from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.rows import ReviewFlag
from galaxy_batch.synthetic.survey import write_survey
from tests.faults.killers import WITH_KILLER, killer_cutout
from tests.support.models import SavedModel
from tests.support.repository import REPOSITORY
from tests.support.skies import read_catalog

pytestmark = [pytest.mark.faults, pytest.mark.timeout(550)]

# Two in the first of four chunks of seven rows, one in the third and one in the last.
KILLERS = {1: "SIGSEGV", 4: "SIGABRT", 16: "SIGKILL", 24: "hang"}
CONFIG = """
release = "made-up"
output_uri = "{folder}/{name}"
checkpoint_uri = "{model}"
max_failed_fraction = 0.5
[manifest]
uri = "{folder}/objects.csv"
ra_column = "ra"
dec_column = "dec"
uri_template = "images/{{object_id}}.jpg"
[classify]
chunk_rows = 7
[runtime]
num_cpus = 2
actors = 2
engine = "torch"
row_limit_s = 0.2
"""


def write_killers(folder: Path, galaxies: int, killers: Mapping[int, str]) -> None:
    """A survey with crashing cutouts; `killers` maps rows to a signal's name or `hang`."""
    files = write_survey(folder, galaxies=galaxies, seed=4)
    ids = pacsv.read_csv(files.manifest)["object_id"].to_pylist()
    for row, crash in killers.items():
        path = files.images / f"{ids[row]}.jpg"
        path.write_bytes(killer_cutout(crash, path.read_bytes()))


def build(survey: Path, model: SavedModel, name: str, *options: str, killer: bool) -> subprocess.CompletedProcess[str]:
    config = survey / f"{name}.toml"
    config.write_text(CONFIG.format(folder=survey, name=name, model=model.uri))
    environment = {**os.environ, "PYTHONPATH": WITH_KILLER if killer else os.environ.get("PYTHONPATH", "")}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", "jobs.build_catalog", str(config), *options]
    return subprocess.run(
        command, check=False, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=500
    )


def summary(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr[-5000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def rows_of(catalog_uri: str) -> pa.Table:
    return read_catalog(catalog_uri).drop_columns(["model_id"])


def test_each_crashing_cutout_is_one_row_and_the_others_are_unchanged(tmp_path: Path, saved_model: SavedModel) -> None:
    write_killers(tmp_path, 28, KILLERS)
    undisturbed = summary(build(tmp_path, saved_model, "undisturbed", killer=False))
    disturbed = summary(build(tmp_path, saved_model, "disturbed", killer=True))
    assert undisturbed["status_counts"] == {"ok": 28}
    assert disturbed["status_counts"] == {"ok": 24, "crashed": 4}
    assert verify_catalog(disturbed["catalog_uri"]) == []
    assert disturbed["parts_uri"].rpartition("/")[2] == undisturbed["parts_uri"].rpartition("/")[2]
    parts = sorted(path.name for path in Path(disturbed["parts_uri"]).iterdir())
    assert parts == [f"part-{chunk:06d}.parquet" for chunk in range(4)]

    ids = pacsv.read_csv(tmp_path / "objects.csv")["object_id"].to_pylist()
    wanted, rows = rows_of(undisturbed["catalog_uri"]), rows_of(disturbed["catalog_uri"])
    assert rows["object_id"].to_pylist() == wanted["object_id"].to_pylist() == sorted(ids)
    errors = dict(zip(rows["object_id"].to_pylist(), rows["error"].to_pylist(), strict=True))
    for row, crash in KILLERS.items():
        end = "was not done after 12 s" if crash == "hang" else f"was ended by {crash}"
        assert errors[ids[row]].startswith(f"the process that read this image {end}")
    killed = np.isin(rows["object_id"].to_numpy(), [ids[row] for row in KILLERS])
    assert set(rows.filter(pa.array(killed))["status"].to_pylist()) == {"crashed"}
    assert all(flags & ReviewFlag.UNREADABLE for flags in rows.filter(pa.array(killed))["review_flags"].to_pylist())
    rows, wanted = rows.filter(pa.array(~killed)), wanted.filter(pa.array(~killed))
    floats = [name for name in rows.column_names if rows.schema.field(name).type == pa.float32()]
    assert rows.drop_columns(floats).equals(wanted.drop_columns(floats))
    for name in floats:  # rounding depends on the other cutouts of a batch
        np.testing.assert_allclose(rows[name].to_numpy(), wanted[name].to_numpy(), rtol=0, atol=1e-6)


def test_too_many_suspect_chunks_fail_the_job_and_the_next_run_finishes(
    tmp_path: Path, saved_model: SavedModel
) -> None:
    write_killers(tmp_path, 9, {8: "SIGSEGV"})
    done = build(tmp_path, saved_model, "strict", "--set", "runtime.max_suspect_chunks=0", killer=True)
    assert done.returncode == 1
    assert "more than runtime.max_suspect_chunks = 0" in done.stderr
    assert not list((tmp_path / "strict").rglob("manifest.json"))
    again = summary(build(tmp_path, saved_model, "strict", killer=True))
    assert (again["rows"], again["failed"]) == (9, 1)
