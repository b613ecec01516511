"""A catalog and a checkpoint of version 0.1.0 stay usable; see tests/published/README.md."""

import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from astropy.table import Table

from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.compare.compare import compare_catalogs
from galaxy_batch.compare.config import CompareConfig
from galaxy_batch.compare.page import write_comparison
from galaxy_batch.config import CatalogConfig, ManifestConfig, ReportConfig
from galaxy_batch.export.config import ExportConfig
from galaxy_batch.export.export import export_catalog
from galaxy_batch.model.saved_model import load_checkpoint
from galaxy_batch.pipeline import classify_release
from galaxy_batch.plan import plan_release
from galaxy_batch.release_page.page import write_release_page
from galaxy_batch.settings import load_config, parse_config
from tests.support.repository import REPOSITORY
from tests.support.skies import read_catalog

ROWS, MODEL_ID = 24, "43afe6985ca997ca"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The survey, its checkpoint `model.safetensors`, its config `catalog.toml`, and its catalog."""
    folder = tmp_path_factory.mktemp("published")
    zipfile.ZipFile(REPOSITORY / "tests" / "published" / "survey.zip").extractall(folder)
    return folder


@pytest.fixture(scope="module")
def published(folder: Path) -> Path:
    return folder / "release=published" / f"model={MODEL_ID}" / "catalog"


def run(folder: Path, output: Path, **settings: object) -> dict[str, Any]:
    """Classify the survey with the old config and checkpoint."""
    values = {
        "output_uri": output,
        "checkpoint_uri": folder / "model.safetensors",
        "manifest.uri": folder / "objects.csv",
    }
    overrides = [f"{name}={value}" for name, value in {**values, **settings}.items()]
    return classify_release(plan_release(load_config(CatalogConfig, folder / "catalog.toml", overrides)))


@pytest.fixture(scope="module")
def new_run(folder: Path, ray_started: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(folder, tmp_path_factory.mktemp("new"))


def assert_equal_rows(one: pa.Table, other: pa.Table) -> None:
    """All columns are equal, except for rounding errors of the network."""
    assert one.column_names == other.column_names
    for name in one.column_names:
        if pa.types.is_float32(one.schema.field(name).type):
            assert one[name].is_null().equals(other[name].is_null())
            a, b = (np.asarray(pc.drop_null(table[name])) for table in (one, other))
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4, err_msg=name)
        else:
            assert one[name].equals(other[name]), name


def test_it_verifies(published: Path) -> None:
    assert verify_catalog(str(published)) == []


def test_damage_is_detected(published: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(published, tmp_path / "catalog")
    file = next(damaged.rglob("Npix=*.parquet"))
    file.write_bytes(file.read_bytes()[:-1])
    assert verify_catalog(str(damaged)) != []


def test_the_checkpoint_loads(folder: Path) -> None:
    checkpoint, model = load_checkpoint(str(folder / "model.safetensors"))
    assert checkpoint.checkpoint_id == MODEL_ID
    assert checkpoint.spec.classes == ("smooth", "featured")
    assert model.familiarity is not None


def test_the_checkpoint_gives_the_same_catalog(published: Path, new_run: dict[str, Any]) -> None:
    assert (new_run["rows"], new_run["failed"], new_run["flagged"], new_run["model_id"]) == (ROWS, 4, 13, MODEL_ID)
    assert_equal_rows(read_catalog(published), read_catalog(new_run["catalog_uri"]))


def test_it_is_compared_with_a_new_run(published: Path, new_run: dict[str, Any], tmp_path: Path) -> None:
    uris = {"old_uri": str(published), "new_uri": new_run["catalog_uri"], "output_uri": str(tmp_path)}
    config = parse_config(CompareConfig, {**uris, "bin_columns": ["r_mag"]})
    comparison = compare_catalogs(config)
    assert (comparison.matching.matched, comparison.flipped, comparison.crossed) == (ROWS, 0, [])
    write_comparison(comparison, config)
    assert (tmp_path / "index.html").is_file()


def test_its_predictions_are_reused(folder: Path, published: Path, ray_started: None, tmp_path: Path) -> None:
    summary = run(folder, tmp_path, release="next", reuse_from=published)
    assert summary["reuse"]["reused"] == 20
    assert (summary["reuse"]["new"], summary["reuse"]["vanished"]) == (0, 0)
    assert verify_catalog(summary["catalog_uri"]) == []
    old, new = (read_catalog(uri).drop_columns("release") for uri in (published, summary["catalog_uri"]))
    assert_equal_rows(old, new)


@pytest.mark.parametrize("suffix", ["fits", "vot", "csv"])
def test_rows_are_exported(published: Path, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"rows.{suffix}"
    config = {"catalog_uri": str(published), "output_uri": str(output), "where": "predicted_class = 'smooth'"}
    assert export_catalog(parse_config(ExportConfig, config))["rows"] == 11
    assert len(Table.read(output)) == 11


def test_its_page_is_written(folder: Path, published: Path, tmp_path: Path) -> None:
    source = ManifestConfig(str(folder / "objects.csv"), uri_template="images/{object_id}.jpg")
    page = Path(write_release_page(str(published), str(tmp_path), ReportConfig(cutouts=2), source)).read_text()
    assert MODEL_ID in page
    assert page.count("<img ") > 3
