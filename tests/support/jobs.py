"""Running jobs as processes, and the type of the fixture that runs them in this process."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.repository import REPOSITORY


@dataclass(frozen=True)
class FinishedJob:
    """Result of a job."""

    code: object
    log: str
    stdout: str


CallJob = Callable[..., FinishedJob]


def run_job(job: str, *arguments: str, timeout: float = 150) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"jobs.{job}", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def summary_of(process: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads(process.stdout.strip().splitlines()[-1])
    return summary
