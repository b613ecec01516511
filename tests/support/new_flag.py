"""What a flag that is one more row of the table does everywhere: `python -m tests.support.new_flag FOLDER`.

`tests/review/test_flags.py` runs it on a copy of the package to which the row and its setting were added.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.config import ManifestConfig, ReportConfig
from galaxy_batch.inputs.manifest import open_manifest
from galaxy_batch.release_page.page import write_release_page
from galaxy_batch.reuse.join import join_previous
from galaxy_batch.reuse.predictions import reuse_predictions
from galaxy_batch.reuse.previous import PreviousCatalog, prediction_settings
from galaxy_batch.review.flags import flag_for_review
from galaxy_batch.rows import CATALOG_COLUMNS, flag_names, prediction_columns
from tests.support import skies

COLUMN = "_saturated_fraction"
ROW = '    SATURATED = _Row(512, "many pixels are saturated", _above("_saturated_fraction", "max_saturated", True))\n'
SETTING = (
    '    max_saturated: Annotated[float, Range(0, 1)] = 0.5\n    """SATURATED above this share of the pixels."""\n'
)
COUNT = 600


def sky_rows(saturated: np.ndarray) -> pa.Table:
    """Simulated rows, flagged with one more measurement on the pixels."""

    def flag_with_measurement(rows: pa.Table, limits: object) -> pa.Table:
        no_image = rows["image_hash"].is_null().to_numpy()
        measured = pa.array(np.where(saturated, 0.8, 0.2), mask=no_image)
        return flag_for_review(rows.append_column(COLUMN, measured), limits)

    skies.flag_for_review = flag_with_measurement
    return skies.sky_rows(len(saturated))


def check_everywhere(folder: Path) -> None:
    rows = sky_rows(np.arange(COUNT) % 7 == 0)
    saturated = (np.arange(COUNT) % 7 == 0) & rows["image_hash"].is_valid().to_numpy()
    assert COLUMN not in rows.column_names
    assert ["SATURATED" in flag_names(bits) for bits in rows["review_flags"].to_pylist()] == saturated.tolist()
    description = next(column.description for column in CATALOG_COLUMNS if column.name == "review_flags")
    assert "512 SATURATED, many pixels are saturated" in description
    catalog = skies.publish_rows(folder, rows)
    assert (problems := verify_catalog(str(catalog))) == [], problems
    manifest = require_manifest(str(catalog))
    assert manifest.flag_counts["SATURATED"] == saturated.sum()
    page = Path(write_release_page(str(catalog), str(folder / "report"), ReportConfig(cutouts=0))).read_text()
    assert "SATURATED" in page
    assert "many pixels are saturated" in page
    check_reuse(
        folder,
        rows,
        PreviousCatalog(str(catalog), "a", COUNT, manifest.files, tuple(prediction_columns(skies.CLASSES)), {}),
    )


def check_reuse(folder: Path, rows: pa.Table, previous: PreviousCatalog) -> None:
    """Rows that are reused keep the flag, without the measurement; and its limit must be that of the catalog."""
    assert prediction_settings({"review": {"max_saturated": 0.25}})["review.max_saturated"] == 0.25
    pq.write_table(rows.select(["object_id"]), folder / "objects.parquet")
    config = ManifestConfig(str(folder / "objects.parquet"), uri_template="{object_id}.jpg")
    chunks = open_manifest(config, chunk_rows=COUNT)
    predictions = join_previous(previous, chunks, config, str(folder / "predictions"), skies.run_in_order)
    names = ["object_id", "ra", "confidence", "status", "image_hash"]
    chunk = rows.select(names).append_column("_chunk", pa.array(np.zeros(COUNT, np.int32)))
    chunk = chunk.append_column("_image_bytes", pa.nulls(COUNT, pa.large_binary()))
    reused = reuse_predictions(chunk, predictions)
    for name in (COLUMN, "_blank_fraction"):
        reused = reused.append_column(name, pa.nulls(COUNT, pa.float32()))
    flags = flag_for_review(reused, skies.REVIEW)["review_flags"].to_numpy()
    expected = rows["review_flags"].to_numpy() & np.where(reused["_origin"].to_numpy() == "reused", 512, 0)
    assert expected.sum() > 0
    assert np.array_equal(flags & 512, expected)


if __name__ == "__main__":
    check_everywhere(Path(sys.argv[1]))
