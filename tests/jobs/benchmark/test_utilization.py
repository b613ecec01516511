import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.benchmark.utilization import Utilization, steady_interval, watch_utilization


def test_cores_and_gpus_within_an_interval() -> None:
    used = Utilization()
    used.cpu_seconds = [(0.0, 0.0), (10.0, 5.0), (20.0, 45.0), (30.0, 46.0)]
    used.gpu_busy = [(5.0, 0.0), (12.0, 0.9), (18.0, 1.0), (25.0, 0.0)]
    assert used.within((10.0, 20.0)) == {"cores_used": 4.0, "gpu_busy_share": 0.95}
    assert used.within(None) == {"cores_used": None, "gpu_busy_share": None}


def test_the_steady_interval_is_between_the_first_and_the_last_part(tmp_path: Path) -> None:
    parts = [tmp_path / f"{number}" for number in range(3)]
    for part, when in zip(parts, (50, 10, 30), strict=True):
        part.touch()
        os.utime(part, (when, when))
    assert steady_interval(parts) == (10, 50)
    assert steady_interval(parts[:1]) is None


def test_a_process_and_the_gpus_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nwhile true; do echo 80; echo '[N/A]'; sleep 0.1; done\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    started = time.time()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        with watch_utilization(process.pid) as used:
            time.sleep(1.8)
        process.kill()
    within = used.within((started, time.time()))
    assert within["gpu_busy_share"] == 0.8
    assert within["cores_used"] is not None
    assert 0 < within["cores_used"] < 1.5
