"""What Ray says about settings that are chosen on purpose is left out; the rest of the log is not touched."""

import subprocess
import sys

from tests.support.repository import REPOSITORY

SCRIPT = """
import logging, os, sys
logging.basicConfig(stream=sys.stderr, format="%(message)s")
from jobs.quiet import quiet_ray

with quiet_ray():
    note = b"[E 1] has constructor arguments in the object store and max_restarts > 0. If the arguments\\n"
    os.write(2, note + b"[E 2] kept\\n" + note)
    logging.getLogger("ray.data._internal.progress").warning("Progress bars disabled. To enable")
    logging.getLogger("ray.data._internal.progress").warning("another message")
    logging.warning("logged")
    print("printed", file=sys.stderr)
    os.write(2, b"progress without a line end")
print(" after", file=sys.stderr)
logging.warning("after")
"""


def test_only_known_messages_are_left_out() -> None:
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=True
    )
    lines = process.stderr.splitlines()
    assert sorted(lines[:-2]) == ["[E 2] kept", "another message", "logged", "printed"]
    assert lines[-2:] == ["progress without a line end after", "after"]
