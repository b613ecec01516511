import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from galaxy_batch.runtime import child_process
from galaxy_batch.runtime.child_process import ChildProcess, ProcessEnded
from tests.faults.killers import classifier_settings, encoded_chunk
from tests.support.models import SavedModel
from tests.support.repository import REPOSITORY

pytestmark = pytest.mark.faults


def test_a_process_that_dies_while_it_loads_the_model_blames_no_cutout(
    saved_model: SavedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "_START_LIMIT_S", 0.001)
    with pytest.raises(RuntimeError, match="without any cutout, was not done after 0 s: the cutouts are not the cause"):
        ChildProcess(classifier_settings(saved_model)).classify(encoded_chunk([None]), 1.0)


def test_a_process_that_is_killed_while_it_receives_a_chunk_is_replaced(saved_model: SavedModel) -> None:
    """A large chunk is when the kernel kills a process for its memory."""
    child = ChildProcess(classifier_settings(saved_model))
    rows = encoded_chunk([None] * 3)
    large = rows.set_column(4, "_image_bytes", [[bytes(100 << 20)] * 3])
    process = psutil.Process(child.process.pid)
    child.classify(rows, 10.0)
    started_with = process.memory_info().rss

    def kill_while_it_receives() -> None:
        while process.memory_info().rss < started_with + (20 << 20):
            pass
        os.kill(process.pid, signal.SIGKILL)

    threading.Thread(target=kill_while_it_receives, daemon=True).start()
    with pytest.raises(ProcessEnded, match="was ended by SIGKILL"):
        child.classify(large, 10.0)
    assert child.classify(rows, 10.0)["status"].to_pylist() == ["ok"] * 3
    child.close()


def test_classified_rows_are_reported_while_a_chunk_is_classified(saved_model: SavedModel, tmp_path: Path) -> None:
    script = """
import contextlib, sys
from galaxy_batch.runtime import progress
progress._REPORT_S = 0.0  # also in the child, which imports this file
if __name__ == "__main__":
    from galaxy_batch.runtime.child_process import ChildProcess
    from tests.faults.killers import classifier_settings, encoded_chunk
    from tests.support.models import SavedModel
    settings = {**classifier_settings(SavedModel(sys.argv[1], {})), "batch_size": 2}
    with contextlib.closing(ChildProcess(settings)) as child:
        child.classify(encoded_chunk([None] * 5), 10.0, print)
"""
    (tmp_path / "reports.py").write_text(script)
    command = [sys.executable, str(tmp_path / "reports.py"), saved_model.uri]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, check=True, env=environment, capture_output=True, text=True, timeout=100)
    assert done.stdout.split() == ["2", "4", "5"]


def test_a_hang_ends_the_process_even_if_no_other_thread_can_run() -> None:
    script = (
        "import ctypes\n"
        "from galaxy_batch.runtime.child_process import exit_after\n"
        "with exit_after(60): pass\n"
        "with exit_after(0.5): ctypes.PyDLL(None).pause()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, cwd=REPOSITORY, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 1
    assert "Timeout" in done.stderr
