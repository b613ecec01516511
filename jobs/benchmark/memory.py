"""Memory of a job and of every process that it starts, watched from outside."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

__all__ = ["Footprint", "watch"]

_EVERY_S = 0.5


class Footprint:
    """Peaks of what was seen, sampled twice a second."""

    def __init__(self) -> None:
        self.peak_bytes: dict[str, int] = {}
        """By kind of process: the largest that one of them had. Private memory: Ray's shared object store, which
        every process maps, is not in it."""
        self.peak_spilled_bytes = 0
        """Of Ray's object store on disk, at any one time."""

    def look(self, process: psutil.Process, spill_folder: Path | None) -> None:
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
def watch(pid: int, spill_folder: Path | None = None) -> Iterator[Footprint]:
    """Watch a process and its descendants while the block runs.

    Args:
        pid: of the job's process.
        spill_folder: where its Ray keeps its session, `RAY_TMPDIR`.
    """
    footprint, over = Footprint(), threading.Event()

    def sample() -> None:
        try:
            process = psutil.Process(pid)
            while not over.wait(_EVERY_S):
                footprint.look(process, spill_folder)
        except psutil.NoSuchProcess:
            return

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield footprint
    finally:
        over.set()
        thread.join()


def _kind(command: list[str]) -> str:
    """`actor` and `task` for Ray's workers by what they do now, else the program's own name."""
    title = command[0] if command else ""
    if not title.startswith("ray::"):
        return Path(title.split(" ")[0]).name or "other"
    work = title.removeprefix("ray::")
    if "Worker" in work or "Actor" in work:
        return "actor"
    return "idle worker" if work.startswith("IDLE") else "task"
