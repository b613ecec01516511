"""Decoding in a child process with limits on memory and time, so that crashes and hangs are results too.

The child, `python -m tests.faults.reader MEGABYTES`, reads cutouts from stdin and writes one line of JSON for each.
"""

import json
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

__all__ = ["Reader", "Verdict"]

_REPOSITORY = Path(__file__).parent.parent.parent
_LENGTH = struct.Struct(">Q")
_MAX_PIXELS = 25_000_000  # as `classify.max_image_pixels`


@dataclass(frozen=True)
class Verdict:
    """Result of decoding one cutout."""

    status: str
    """A `Status`, `exception` for an error that `decode` must not raise, or `crash` or `hang` of the process."""
    error: str
    peak_bytes: int = 0
    """Largest increase of the process's memory while the cutout was decoded."""
    seconds: float = 0.0


class Reader:
    """A child process that decodes cutouts and is replaced when it dies.

    Args:
        megabytes: memory limit, in addition to the memory after its start.
        limit_s: time limit for one cutout.
    """

    def __init__(self, megabytes: int, limit_s: float) -> None:
        self.megabytes, self.limit_s = megabytes, limit_s
        self._start()

    def __call__(self, content: bytes) -> Verdict:
        """Decode one cutout."""
        pipes = self.child.stdin, self.child.stdout
        assert pipes[0] is not None
        assert pipes[1] is not None
        started = time.monotonic()
        try:
            pipes[0].write(_LENGTH.pack(len(content)) + content)
            pipes[0].flush()
            if not select.select([pipes[1]], [], [], self.limit_s)[0]:
                self._replace()
                return Verdict("hang", f"not done after {self.limit_s} s")
            line = pipes[1].readline()
        except BrokenPipeError:
            line = b""
        if not line:
            code = self.child.wait()
            self._replace()
            return Verdict("crash", signal.Signals(-code).name if code < 0 else f"exit code {code}")
        status, error, peak = json.loads(line)
        return Verdict(status, error, peak, time.monotonic() - started)

    def close(self) -> None:
        """Kill the child."""
        self.child.kill()
        self.child.communicate()

    def _start(self) -> None:
        command = [sys.executable, "-m", "tests.faults.reader", str(self.megabytes)]
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_REPOSITORY)
        assert self.child.stdout is not None
        assert self.child.stdout.readline() == b"ready\n"

    def _replace(self) -> None:
        self.close()
        self._start()


def _memory(which: str) -> int:
    """An entry of /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(which):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {which}")


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _serve(source: BinaryIO, sink: BinaryIO, read: Callable[[bytes], tuple[str, str]], megabytes: int) -> None:
    limit = _memory("VmSize") + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sink.write(b"ready\n")
    sink.flush()
    while length := source.read(_LENGTH.size):
        content = source.read(_LENGTH.unpack(length)[0])
        _forget_peak()
        before = _memory("VmRSS")
        status, error = read(content)
        sink.write(json.dumps([status, error, _memory("VmHWM") - before]).encode() + b"\n")
        sink.flush()


def _main() -> None:
    from galaxy_batch.cutouts.decode import blank_fraction, decode
    from galaxy_batch.cutouts.resize import resize
    from galaxy_batch.rows import UnusableCutout

    def read(content: bytes) -> tuple[str, str]:
        try:
            pixels = decode(content, _MAX_PIXELS)
            small = resize(pixels, 64, 0.75)
            assert small.shape == (3, 64, 64)
            assert 0 <= blank_fraction(pixels) <= 1
        except UnusableCutout as bad:
            return str(bad.status), bad.reason
        except Exception as error:  # noqa: BLE001 - any exception is a result
            return "exception", repr(error)
        return "ok", ""

    read(b"SIMPLE  =")  # imports astropy before memory is limited
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of a decoder goes to stderr
    _serve(sys.stdin.buffer, sink, read, int(sys.argv[1]))


if __name__ == "__main__":
    _main()
