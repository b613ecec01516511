"""A process of its own: its end is seen, and told from that of a cutout."""

import subprocess
import sys

import pytest

from galaxy_batch.runtime import child_process
from galaxy_batch.runtime.isolation import classify_apart
from tests.conftest import REPOSITORY, SavedModel
from tests.runtime.test_isolation import chunk, model


@pytest.mark.faults
def test_a_process_that_dies_without_a_cutout_is_not_the_cutouts_fault(
    saved_model: SavedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "_START_S", 0.001)
    with pytest.raises(RuntimeError, match="no cutout yet, was not done after 0 s: it is not the cutouts"):
        classify_apart(chunk([None]), 1.0, model(saved_model))


@pytest.mark.faults
def test_a_hang_ends_the_process_even_where_no_other_thread_can_run() -> None:
    script = (
        "import ctypes\n"
        "from galaxy_batch.runtime.child_process import ended_after\n"
        "with ended_after(60): pass\n"
        "with ended_after(0.5): ctypes.PyDLL(None).pause()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, cwd=REPOSITORY, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 1
    assert "Timeout" in done.stderr
