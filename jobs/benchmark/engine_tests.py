"""The tests of the GPU engine, which compare it with the model on the CPU, in a process of their own."""

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

__all__ = ["run_engine_tests"]

_TESTS = "tests/model/engines/test_cuda.py"
_CHECKOUT = Path(__file__).parents[2]
_LIMIT_S = 240


def run_engine_tests() -> dict[str, Any]:
    """Numbers of `passed`, `failed` and `skipped` tests, names of `failures`, and `seconds`.

    Without a GPU all but those that need none are skipped.

    Raises:
        RuntimeError: the tests cannot be run: pytest is not installed, or this is not a checkout.
    """
    with tempfile.TemporaryDirectory(prefix="gb-") as folder:
        results = Path(folder) / "results.xml"
        options = ["-m", "gpu or not gpu", "-p", "no:cacheprovider", f"--junitxml={results}"]
        command = [sys.executable, "-m", "pytest", _TESTS, *options]
        ended = subprocess.run(command, cwd=_CHECKOUT, stdout=sys.stderr, timeout=_LIMIT_S, check=False)  # noqa: S603
        if ended.returncode not in (0, 1):
            raise RuntimeError(f"pytest {_TESTS} ended with exit code {ended.returncode}; its messages are above")
        suite = ET.parse(results).getroot().find("testsuite")  # noqa: S314 - written by pytest
    assert suite is not None
    failures = [
        case.get("name") for case in suite if case.find("failure") is not None or case.find("error") is not None
    ]
    skipped = int(suite.get("skipped", 0))
    return {
        "passed": int(suite.get("tests", 0)) - len(failures) - skipped,
        "failed": len(failures),
        "skipped": skipped,
        "failures": failures,
        "seconds": float(suite.get("time", 0)),
    }
