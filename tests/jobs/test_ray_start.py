"""Where a job's Ray runs does not depend on what else runs, or was left behind, on the machine."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from galaxy_batch.errors import InputError
from jobs import ray_start
from tests.support.repository import REPOSITORY

SESSION = """
import os, ray
from galaxy_batch.config import RuntimeConfig
from jobs.command import ray_session

with ray_session(RuntimeConfig(num_cpus=1)):
    print(ray.cluster_resources()["CPU"], ray._private.worker._global_node.get_session_dir_path())
"""


def run_session(**variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if key not in ("RAY_ADDRESS", "RAY_TMPDIR")}
    return subprocess.run(
        [sys.executable, "-c", SESSION],
        cwd=REPOSITORY, env={**inherited, **variables}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_an_address_file_left_behind_and_a_long_tmpdir_do_not_matter() -> None:
    """`TMPDIR` holds the address file of a Ray that has ended, and is too long for the sockets of Ray."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / ("batch-job-4711-" + "x" * (63 - len(parent) - len("batch-job-4711-") - 1))
        (folder / "ray").mkdir(parents=True)
        (folder / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{port}")
        assert len(str(folder)) == 63
        before = set(Path("/tmp").glob("gb-*"))
        process = run_session(TMPDIR=str(folder))
        assert process.returncode == 0, process.stderr
        cpus, session = process.stdout.split()
        assert cpus == "1.0"
        assert (folder / "ray" / Path(session).name / "logs").is_dir()  # all but the path is in TMPDIR
        assert set(Path("/tmp").glob("gb-*")) <= before


def test_a_long_tmpdir_is_named_where_no_short_folder_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_start, "_SHORT_FOLDERS", ("/nowhere",))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("x" * 63)))
    with pytest.raises(InputError, match=r"TMPDIR = .*x': too long for the sockets of Ray: set RAY_TMPDIR to a folder"):
        ray_start.local_ray(1).__enter__()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:8265", "not the address of a Ray cluster: unset RAY_ADDRESS"),
        ("cluster", "not the address of a Ray cluster: unset RAY_ADDRESS"),
        ("127.0.0.1:1", "no Ray cluster responds"),
        ("ray://127.0.0.1:1", "no Ray cluster responds"),
        ("127.0.0.1:99999", "no Ray cluster responds"),
    ],
)
def test_a_wrong_ray_address_is_an_input_error(address: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ray_start.ray_at(address).__enter__()


@pytest.mark.slow
def test_a_ray_that_somebody_else_started_is_not_used(tmp_path: Path) -> None:
    """`ray start` writes the address file that a plain `ray.init()` reads."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    with socket.create_server(("127.0.0.1", 0)) as server:
        free_port = server.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:
        variables = {"TMPDIR": folder, "HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"}
        with subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=3", "--port=0",
             "--include-dashboard=false", "--disable-usage-stats", f"--ray-client-server-port={free_port}"],
            env={**inherited, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as other:  # fmt: skip
            try:
                deadline = time.monotonic() + 90
                while not (Path(folder) / "ray" / "ray_current_cluster").exists():
                    assert other.poll() is None, "the other Ray did not start"
                    assert time.monotonic() < deadline, "the other Ray did not start"
                    time.sleep(0.2)
                process = run_session(**variables)
                assert other.poll() is None
            finally:
                other.terminate()
                other.wait(60)
    assert process.returncode == 0, process.stderr
    assert process.stdout.split()[0] == "1.0"
