"""Peak memory of a job and of every process that it starts, measured from outside."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

__all__ = ["PeakMemory", "watch_memory"]

_INTERVAL_S = 0.5


class PeakMemory:
    """Largest values of the samples so far, two a second."""

    def __init__(self) -> None:
        self.peak_bytes: dict[str, int] = {}
        """By kind of process, the largest private memory of one of them. Ray's shared object store, which every process
        maps, is not counted."""
        self.peak_spilled_bytes = 0
        """Of the objects that Ray spills to disk."""

    def sample(self, process: psutil.Process, spill_folder: Path | None) -> None:
        """Take one sample of a process, its descendants, and the files that Ray spills."""
        for one in [process, *process.children(recursive=True)]:
            try:
                memory, command = one.memory_info(), one.cmdline()
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
            kind = "driver" if one.pid == process.pid else _kind(command)
            self.peak_bytes[kind] = max(self.peak_bytes.get(kind, 0), memory.rss - memory.shared)
        if spill_folder is not None:
            sizes = []
            for file in spill_folder.glob("**/*spilled*/*"):
                try:
                    sizes.append(file.stat().st_size)
                except FileNotFoundError:
                    continue
            self.peak_spilled_bytes = max(self.peak_spilled_bytes, sum(sizes))


@contextmanager
def watch_memory(pid: int, spill_folder: Path | None = None) -> Iterator[PeakMemory]:
    """Sample the memory of a process and its descendants while the block runs.

    Args:
        pid: of the job's process.
        spill_folder: where its Ray keeps its session, `RAY_TMPDIR`.
    """
    peaks, done = PeakMemory(), threading.Event()

    def sample() -> None:
        try:
            process = psutil.Process(pid)
            while not done.wait(_INTERVAL_S):
                peaks.sample(process, spill_folder)
        except psutil.NoSuchProcess:
            return

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()


def _kind(command: list[str]) -> str:
    """`actor`, `task` or `idle worker` for Ray's workers, by their present work; else the program's name."""
    title = command[0] if command else ""
    if not title.startswith("ray::"):
        return Path(title.split(" ")[0]).name or "other"
    work = title.removeprefix("ray::")
    if "Worker" in work or "Actor" in work:
        return "actor"
    return "idle worker" if work.startswith("IDLE") else "task"
