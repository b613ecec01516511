import os
import subprocess
import sys
import time
from pathlib import Path

from jobs.benchmark.memory import watch

MEBIBYTE = 1 << 20


def test_the_memory_of_a_process_and_of_its_children() -> None:
    child = "import time; held = b'x' * (300 << 20); print(len(held), flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        with watch(process.pid) as footprint:
            assert process.stdout.readline()  # the child holds its memory
            time.sleep(1.2)
        os.killpg(process.pid, 9)
    assert footprint.peak_bytes["driver"] < 100 * MEBIBYTE
    kinds = [kind for kind, size in footprint.peak_bytes.items() if 300 * MEBIBYTE < size < 400 * MEBIBYTE]
    assert kinds == [Path(sys.executable).name]


def test_what_ray_spills_is_seen(tmp_path: Path) -> None:
    folder = tmp_path / "session" / "ray_spilled_objects_1"
    folder.mkdir(parents=True)
    (folder / "object").write_bytes(bytes(5000))
    with watch(os.getpid(), tmp_path) as footprint:
        time.sleep(1.2)
    assert footprint.peak_spilled_bytes == 5000
    assert set(footprint.peak_bytes) >= {"driver"}


def test_a_process_that_ends_while_it_is_watched() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process, watch(process.pid) as footprint:
        process.wait()
        time.sleep(0.7)
    assert footprint.peak_spilled_bytes == 0
