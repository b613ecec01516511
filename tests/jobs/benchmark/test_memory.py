import os
import subprocess
import sys
import time
from pathlib import Path

from jobs.benchmark.memory import watch_memory

MEBIBYTE = 1 << 20


def test_the_memory_of_a_process_and_of_its_children() -> None:
    child = "import time; held = b'x' * (300 << 20); print(len(held), flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        with watch_memory(process.pid) as memory:
            assert process.stdout.readline()  # the child holds its memory
            time.sleep(1.2)
        os.killpg(process.pid, 9)
    assert memory.peak_bytes["driver"] < 100 * MEBIBYTE
    kinds = [kind for kind, size in memory.peak_bytes.items() if 300 * MEBIBYTE < size < 400 * MEBIBYTE]
    assert kinds == [Path(sys.executable).name]


def test_files_that_ray_spills_are_measured(tmp_path: Path) -> None:
    folder = tmp_path / "session" / "ray_spilled_objects_1"
    folder.mkdir(parents=True)
    (folder / "object").write_bytes(bytes(5000))
    with watch_memory(os.getpid(), tmp_path) as memory:
        time.sleep(1.2)
    assert memory.peak_spilled_bytes == 5000
    assert set(memory.peak_bytes) >= {"driver"}


def test_a_process_may_end_while_it_is_watched() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process, watch_memory(process.pid) as memory:
        process.wait()
        time.sleep(0.7)
    assert memory.peak_spilled_bytes == 0
