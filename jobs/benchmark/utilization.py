"""CPU cores and GPU time that a job uses while it is in steady state, measured from outside."""

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

__all__ = ["Utilization", "steady_interval", "watch_utilization"]

_INTERVAL_S = 0.5
_QUERY = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", f"--loop-ms={round(_INTERVAL_S * 1000)}"]


class Utilization:
    """Samples of a process and its descendants, two a second, and of all GPUs that `nvidia-smi` lists."""

    def __init__(self) -> None:
        self.cpu_seconds: list[tuple[float, float]] = []
        """Time of the sample (as of `time.time`), and CPU seconds of all processes since the first sample."""
        self.gpu_busy: list[tuple[float, float]] = []
        """Time of the sample, and share of the time before it in which one GPU computed."""
        self._of_process: dict[tuple[int, float], float] = {}

    def sample(self, process: psutil.Process) -> None:
        """Take one sample of the CPU seconds; those of processes that have ended stay counted."""
        for one in [process, *process.children(recursive=True)]:
            try:
                times = one.cpu_times()
                self._of_process[one.pid, one.create_time()] = times.user + times.system
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        self.cpu_seconds.append((time.time(), sum(self._of_process.values())))

    def within(self, interval: tuple[float, float] | None) -> dict[str, float | None]:
        """`cores_used` and `gpu_busy_share` of an interval; None where there are no samples of it."""
        first, last = interval or (0.0, 0.0)
        cpu = [sample for sample in self.cpu_seconds if first <= sample[0] <= last]
        gpu = [share for when, share in self.gpu_busy if first <= when <= last]
        cores = (cpu[-1][1] - cpu[0][1]) / (cpu[-1][0] - cpu[0][0]) if len(cpu) > 1 else None
        return {
            "cores_used": None if cores is None else round(cores, 2),
            "gpu_busy_share": round(sum(gpu) / len(gpu), 3) if gpu else None,
        }


def steady_interval(parts: Sequence[Path]) -> tuple[float, float] | None:
    """Times of the first and of the last finished part, between which all workers compute; None with one part."""
    times = sorted(part.stat().st_mtime for part in parts)
    return (times[0], times[-1]) if len(times) > 1 and times[-1] > times[0] else None


@contextmanager
def watch_utilization(pid: int) -> Iterator[Utilization]:
    """Sample a process, its descendants and the GPUs while the block runs."""
    used, done = Utilization(), threading.Event()

    def sample() -> None:
        try:
            process = psutil.Process(pid)
            while not done.wait(_INTERVAL_S):
                used.sample(process)
        except psutil.NoSuchProcess:
            return

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        with _watch_gpus(used):
            yield used
    finally:
        done.set()
        thread.join()


@contextmanager
def _watch_gpus(used: Utilization) -> Iterator[None]:
    program = shutil.which("nvidia-smi")
    if program is None:
        yield
        return
    with subprocess.Popen([program, *_QUERY], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:  # noqa: S603 - of the driver

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip().isdigit():  # "[N/A]" where a GPU is divided into instances
                    used.gpu_busy.append((time.time(), int(line) / 100))

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        try:
            yield
        finally:
            process.terminate()
            thread.join()
