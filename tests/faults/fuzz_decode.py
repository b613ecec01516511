"""Decode mutated cutouts: `python -m tests.faults.fuzz_decode --images 100000 --seed 0`.

Good cutouts of every format, and real galaxies if available, are mutated and decoded in child processes with limits on
memory and time. Cutouts that crash or hang the child, or raise anything but `UnusableCutout`, are written to files, and
the exit code is 1. Cutout N of a seed is always the same, so a run can be divided.
"""

import argparse
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from tests.faults.corpus import seeds
from tests.faults.reader import Reader, Verdict

__all__ = ["FINDINGS", "MEGABYTES", "all_seeds", "mutated"]

FINDINGS = ("crash", "hang", "exception")
"""Statuses that are failures."""
MEGABYTES = 1500
"""Memory limit of a child, in addition to its memory at start."""
LIMIT_S = 60.0
_BATCH = 500  # cutouts per task
_WORDS = [b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\0\0\0\x80", b"\xff\xd8",
          b"\xff\xda", b"\xff\xc4", b"\xff\xdb", b"IDAT", b"IEND", b"999999"]  # fmt: skip


def all_seeds(sky: Path | None) -> list[bytes]:
    """Small files of every format, and a few real galaxies."""
    sources = seeds()
    if sky is not None:
        for folder in ("gz2/images", "sdss_dr7/images"):
            files = sorted((sky / folder).iterdir())
            sources += [file.read_bytes() for file in files[:: len(files) // 3]]
    return sources


def mutated(rng: np.random.Generator, sources: Sequence[bytes]) -> bytes:
    """One of the sources with random changes, mostly near its start, where the headers are."""
    content = bytearray(sources[rng.integers(len(sources))])
    for _ in range(int(rng.geometric(0.5))):
        if not content:
            break
        near = rng.random() < 0.6
        at = int(rng.integers(min(len(content), 700) if near else len(content)))
        size = int(2 ** rng.uniform(0, 10))
        match int(rng.integers(8)):
            case 0 | 1:
                content[at] ^= 1 << int(rng.integers(8))
            case 2:
                content[at : at + size] = rng.bytes(min(size, len(content) - at))
            case 3:
                word = _WORDS[rng.integers(len(_WORDS))]
                content[at : at + len(word)] = word
            case 4:
                del content[at : at + size]
            case 5:
                content[at:at] = content[at : at + size]
            case 6:
                other = sources[rng.integers(len(sources))]
                start = int(rng.integers(len(other)))
                content[at : at + size] = other[start : start + size]
            case 7 if rng.random() < 0.3:
                del content[at:]
    return bytes(content)


def _fuzz(reader: Reader, sources: Sequence[bytes], seed: int, numbers: range, findings: Path) -> list[Verdict]:
    verdicts = []
    for number in numbers:
        content = mutated(np.random.default_rng((seed, number)), sources)
        verdicts.append(reader(content))
        if verdicts[-1].status in FINDINGS:
            findings.mkdir(parents=True, exist_ok=True)
            (findings / f"{verdicts[-1].status}-{seed}-{number}").write_bytes(content)
    return verdicts


def _main() -> int:
    parser = argparse.ArgumentParser(description="Decode mutated cutouts.")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--start", type=int, default=0, help="number of the first cutout")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="folder for the cutouts that fail")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sky = os.environ.get("GALAXY_BATCH_SKY")
    sources = all_seeds(Path(sky) if sky else None)
    started, stop = time.monotonic(), options.start + options.images
    statuses, reasons, peak, slowest = Counter[str](), Counter[str](), 0, 0.0
    pieces = [range(first, min(first + _BATCH, stop)) for first in range(options.start, stop, _BATCH)]
    readers = SimpleQueue[Reader]()
    for _ in range(options.processes):
        readers.put(Reader(MEGABYTES, LIMIT_S))

    def fuzz(piece: range) -> list[Verdict]:
        reader = readers.get()
        try:
            return _fuzz(reader, sources, options.seed, piece, options.findings)
        finally:
            readers.put(reader)

    with ThreadPoolExecutor(options.processes) as pool:
        for done in pool.map(fuzz, pieces):
            statuses.update(verdict.status for verdict in done)
            reasons.update(verdict.error[:40] for verdict in done if "MemoryError" in verdict.error)
            peak = max(peak, *(verdict.peak_bytes for verdict in done))
            slowest = max(slowest, *(verdict.seconds for verdict in done))
            logging.info("%s of %s: %s", f"{statuses.total():,}", f"{options.images:,}", dict(statuses))
    for _ in range(options.processes):
        readers.get().close()
    summary = {
        "images": statuses.total(), "seeds": len(sources), "statuses": dict(statuses), "out_of_memory": dict(reasons),
        "peak_megabytes": peak >> 20, "slowest_s": round(slowest, 2), "seconds": round(time.monotonic() - started),
    }  # fmt: skip
    sys.stdout.write(json.dumps(summary) + "\n")
    return int(any(statuses[finding] for finding in FINDINGS))


if __name__ == "__main__":
    sys.exit(_main())
