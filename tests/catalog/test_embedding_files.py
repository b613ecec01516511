"""The embeddings of a catalog are beside its rows, in their order; the catalog itself is as without them."""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog.embedding_files import embedding_path
from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.embeddings import embedding_values, unpacked_embeddings
from galaxy_batch.rows import EMBEDDING
from tests.support.skies import catalog_contents, publish_rows, read_catalog, sky_rows, with_embeddings

ROWS = 900


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return with_embeddings(sky_rows(ROWS, seed=6, without_position=0.1))


@pytest.fixture(scope="module")
def catalog(rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_rows(tmp_path_factory.mktemp("sky"), rows, part_rows=170, max_rows=200, run_rows=400)


def test_each_file_of_rows_has_one_with_the_same_rows(catalog: Path, rows: pa.Table) -> None:
    assert verify_catalog(str(catalog)) == []
    manifest = require_manifest(str(catalog))
    wanted, missing = unpacked_embeddings(rows[EMBEDDING])
    place = {object_id: number for number, object_id in enumerate(rows["object_id"].to_pylist())}
    assert len(manifest.files) == len(manifest.embedding_files) > 5
    for file in manifest.files:
        of_rows = pq.read_table(catalog / file.path, partitioning=None)
        table = pq.read_table(catalog / embedding_path(file.path), partitioning=None)
        for name in ("object_id", "_healpix_29"):
            assert table[name].equals(of_rows[name])
        where = np.array([place[object_id] for object_id in table["object_id"].to_pylist()])
        values, without = embedding_values(table["embedding"])
        assert without.tolist() == missing[where].tolist() == of_rows["predicted_class"].is_null().to_pylist()
        assert np.array_equal(values[~without], wanted[where][~without])


def test_the_catalog_is_the_same_with_and_without(catalog: Path, rows: pa.Table, tmp_path: Path) -> None:
    without = publish_rows(tmp_path, rows.drop_columns([EMBEDDING]), part_rows=170, max_rows=200, run_rows=400)
    contents = catalog_contents(catalog)
    beside = {path for path in contents if path.startswith("embedding/")}
    assert {path: contents[path] for path in contents.keys() - beside} == catalog_contents(without)
    assert beside == {file.path for file in require_manifest(str(catalog)).embedding_files}
    assert require_manifest(str(without)).embedding_files == ()
    assert read_catalog(catalog).equals(read_catalog(without))
    (counted,) = duckdb.sql(f"SELECT count(*) FROM '{catalog}/**/*.parquet'").fetchall()
    assert counted == (ROWS,)


def test_embeddings_of_a_replaced_catalog_are_removed(rows: pa.Table, tmp_path: Path) -> None:
    publish_rows(tmp_path, rows)
    again = publish_rows(tmp_path, rows.drop_columns([EMBEDDING]))
    assert not (again / "embedding").exists()
    assert verify_catalog(str(again)) == []


def test_paths() -> None:
    assert embedding_path("dataset/Norder=1/Dir=0/Npix=17.parquet") == "embedding/Norder=1/Dir=0/Npix=17.pq"
    assert embedding_path("without_position/part-000000.parquet") == "embedding/without_position/part-000000.pq"
