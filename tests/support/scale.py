"""Publish a sky of many rows, and say what it took: `python -m tests.support.scale FOLDER ROWS [POSITIONS.csv]`.

The parts are made first, from rows without images, around the positions given (even over the sphere otherwise), in
another order than the sky's. The last line of stdout is one JSON object.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import ray

from galaxy_batch.catalog.files import CatalogFileHeader
from galaxy_batch.catalog.publish import publish
from galaxy_batch.catalog.sort_parts import sort_parts
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.config import RuntimeConfig
from galaxy_batch.runtime.tasks import run_tasks
from jobs.command import ray_session
from tests.support.skies import (
    MODEL_ID,
    RELEASE,
    REVIEW,
    even_positions,
    layout_in,
    provenance_of,
    schema_of,
    sky_rows,
    write_parts,
)

PART_ROWS = 4096
AT_ONCE = 50 * PART_ROWS


def write_survey(folder: Path, count: int, positions: str | None) -> list[int]:
    """Write parts of rows near the given positions; returns the number of rows of each."""
    known = pd.read_csv(positions) if positions else None
    sizes: list[int] = []
    write = ray.remote(write_some).options(num_cpus=1)
    waiting = [write.remote(folder, start, min(AT_ONCE, count - start), known) for start in range(0, count, AT_ONCE)]
    for some in ray.get(waiting):
        sizes += some
    return sizes


def write_some(folder: Path, first: int, count: int, known: pd.DataFrame | None) -> list[int]:
    """Write some of the parts."""
    rng = np.random.default_rng((1, first))
    if known is None:
        ra, dec = even_positions(count, rng)
    else:
        near = known.iloc[rng.integers(0, len(known), count)]
        ra = (near["ra"].to_numpy() + rng.normal(0, 0.5, count)) % 360
        dec = np.clip(near["dec"].to_numpy() + rng.normal(0, 0.5, count), -90, 90)
    rows = sky_rows(count, seed=1, positions=(ra, dec), without_position=0.01, first=first)
    return write_parts(layout_in(folder).parts, rows, PART_ROWS, first // PART_ROWS)


def main(folder: Path, count: int, positions: str | None) -> None:
    """Write the parts, publish and verify the catalog."""
    seconds = {}
    with ray_session(RuntimeConfig()):
        started = time.monotonic()
        sizes = write_survey(folder, count, positions)
        seconds["parts"] = time.monotonic() - started
        layout, schema = layout_in(folder), schema_of(sky_rows(1))
        started = time.monotonic()
        totals = sort_parts(layout, sizes, run_tasks)
        seconds["sort"] = time.monotonic() - started
        started = time.monotonic()
        header = CatalogFileHeader(schema, RELEASE, MODEL_ID)
        provenance = provenance_of(count, schema, 1_000_000, margin_arcsec=10, index=True)
        manifest = publish(layout, totals, header, provenance, REVIEW, run_tasks)
        seconds["publish"] = time.monotonic() - started
    started = time.monotonic()
    problems = verify_catalog(layout.catalog)
    seconds["verify"] = time.monotonic() - started
    summary = {
        "rows": manifest.rows,
        "parts": len(sizes),
        "files": len(manifest.files),
        "bytes": sum(file.bytes for file in manifest.files),
        "margin_rows": sum(file.rows for file in manifest.margin_files),
        "margin_bytes": sum(file.bytes for file in manifest.margin_files),
        "index_bytes": sum(file.bytes for file in manifest.index_files),
        "problems": problems,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }
    sys.stdout.write(json.dumps(summary) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
