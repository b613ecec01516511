"""The packing job is killed."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.configs import PACK_TOML
from tests.support.files import mtimes, shard_files
from tests.support.jobs import run_job, summary_of
from tests.support.repository import REPOSITORY


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_every_id_is_packed_once_after_a_kill(sky: Path, tmp_path: Path) -> None:
    """A real job on real cutouts. A file lease blocks one cutout, so that the job is killed half-way."""
    manifest, images = sky / "sdss_dr7" / "objects.csv", tmp_path / "images"
    images.mkdir()
    for file in (sky / "sdss_dr7" / "images").iterdir():
        (images / file.name).symlink_to(file)
    ids = pd.read_csv(manifest, dtype=str)["dr7objid"].to_list()
    stuck = images / f"{ids[500]}.jpeg"
    stuck.unlink()
    stuck.write_bytes((sky / "sdss_dr7" / "images" / stuck.name).read_bytes())
    held = os.open(stuck, os.O_RDWR)
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # sent to the holder of a lease that blocks another process
    fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    config, output = tmp_path / "pack.toml", tmp_path / "out"
    config.write_text(PACK_TOML.format(output=output, manifest=manifest, images=images))
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.pack_cutouts", str(config)],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while len(shard_files(output)) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    before = mtimes(shard_files(output))
    assert len(before) >= 3
    assert not (output / "manifest.json").exists()
    planned = json.loads((output / "plan.json").read_text())["shards"]
    assert len(before) < planned

    os.close(held)
    again = run_job("pack_cutouts", str(config))
    assert again.returncode == 0, again.stderr
    assert "resuming" in again.stderr
    summary = summary_of(again)
    assert (summary["rows"], summary["failed"], summary["shards"]) == (1140, 0, planned)
    assert mtimes(list(before)) == before, "finished shards are not written again"
    packed = pq.read_table(shard_files(output))
    assert packed["object_id"].cast(pa.string()).to_pylist() == ids
    assert packed["image"].to_pylist() == [(images / f"{i}.jpeg").read_bytes() for i in ids]
    finished = run_job("pack_cutouts", str(config), timeout=60)
    assert finished.returncode == 0, finished.stderr
    assert "already packed, nothing to do" in finished.stderr
    assert summary_of(finished) == {**summary, "already_packed": True, "seconds": summary_of(finished)["seconds"]}
