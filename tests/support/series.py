"""A folder of releases: catalogs of simulated rows, published one after the other by two models."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.support.release import changed_manifest
from tests.support.row_changes import failing, flipped
from tests.support.skies import publish_rows, sky_rows

__all__ = ["OLD_MODEL", "OTHER_MODEL", "add_catalog", "publish_series"]

OLD_MODEL, OTHER_MODEL = "aaaa000011112222", "bbbb000011112222"


def add_catalog(folder: Path, release: str, model_id: str, created: str, rows: pa.Table) -> Path:
    """Publish rows as a release of a model; the folder of the catalog."""
    made = publish_rows(folder / "made", rows)
    catalog = folder / f"release={release}" / f"model={model_id}" / "catalog"
    catalog.parent.mkdir(parents=True)
    shutil.move(made, catalog)
    shutil.rmtree(folder / "made")

    def change(manifest: dict[str, Any]) -> None:
        manifest.update(release=release, model_id=model_id, created=created)

    changed_manifest(catalog, change)
    return catalog


def publish_series(folder: Path, count: int = 2000) -> Path:
    """Releases dr8, dr9 (1% of the classes changed), dr10 (5% without a class) of one model, and dr10 of another.

    dr11 has not been published, and a catalog of dr9 is damaged.
    """
    rows = sky_rows(count, seed=4, without_position=0.01)
    number = np.arange(count)
    later = pa.concat_tables([flipped(rows, number % 100 == 7), sky_rows(count // 10, seed=4, first=count)])
    failed = failing(later, np.arange(len(later)) % 20 == 3)
    add_catalog(folder, "dr8", OLD_MODEL, "2024-01-01T00:00:00Z", rows)
    add_catalog(folder, "dr9", OLD_MODEL, "2025-01-01T00:00:00Z", later)
    add_catalog(folder, "dr10", OLD_MODEL, "2026-01-01T00:00:00Z", failed)
    add_catalog(folder, "dr10", OTHER_MODEL, "2026-02-01T00:00:00Z", flipped(failed, np.arange(len(later)) % 8 == 0))
    runs = folder / "release=dr11" / f"model={OTHER_MODEL}" / "runs"
    runs.mkdir(parents=True)
    (runs / "20260301T000000Z-0.json").write_text(json.dumps({"state": "failed"}))
    damaged = folder / "release=dr9" / f"model={OTHER_MODEL}" / "catalog"
    damaged.mkdir(parents=True)
    (damaged / "manifest.json").write_text("{")
    (folder / "release=dr7.txt").write_text("no folder")
    (folder / "other" / "model=x").mkdir(parents=True)
    return folder
