from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.compare.catalog_columns import read_columns
from galaxy_batch.errors import InputError
from tests.support.skies import publish_rows, read_catalog, sky_rows


def test_columns_are_read_from_all_files(tmp_path: Path) -> None:
    rows = sky_rows(700, seed=2, without_position=0.1).append_column("z", pa.array([None, *range(699)], pa.int16()))
    catalog = publish_rows(tmp_path, rows, 200, 150)
    manifest = require_manifest(str(catalog))
    read = read_columns("old_uri", str(catalog), manifest, ("irregular", "featured", "smooth"), ("z",))
    order = np.argsort(read.ids.to_numpy())
    wanted = read_catalog(catalog)
    assert len(read) == 700
    assert read.classes == ("smooth", "featured")
    assert read.ids.take(order).to_pylist() == wanted["object_id"].to_pylist()
    codes = {"featured": 1, "smooth": 2, None: -1}
    assert read.label[order].tolist() == [codes[name] for name in wanted["predicted_class"].to_pylist()]
    assert read.flags[order].tolist() == wanted["review_flags"].to_pylist()
    assert read.pixel[order].tolist() == wanted["_healpix_29"].fill_null(-1).to_pylist()
    for values, name in (
        (read.confidence, "confidence"), (read.ra, "ra"), (read.dec, "dec"), (read.columns["z"], "z"),
        (read.probabilities["smooth"], "p_smooth"), (read.probabilities["featured"], "p_featured"),
    ):  # fmt: skip
        assert np.array_equal(values[order], wanted[name].to_numpy().astype(values.dtype), equal_nan=True), name


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    catalog = publish_rows(tmp_path, sky_rows(60))
    file = next(catalog.glob("dataset/**/Npix=*.parquet"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=f"{file.name} is damaged, verify the catalog"):
        read_columns("old_uri", str(catalog), require_manifest(str(catalog)), ("smooth", "featured"))
