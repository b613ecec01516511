"""The nearest rows are those of brute force, whatever the files, row groups and number of queries."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog.manifest import CatalogManifest, require_manifest
from galaxy_batch.embeddings import packed_embeddings, unpacked_embeddings
from galaxy_batch.errors import InputError
from galaxy_batch.rows import EMBEDDING
from galaxy_batch.similar.search import find_embeddings, nearest_rows
from tests.support.s3_server import S3
from tests.support.skies import publish_rows, read_catalog, sky_rows, with_embeddings

ROWS = 800


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return with_embeddings(sky_rows(ROWS, seed=7, without_position=0.1), size=6)


@pytest.fixture(scope="module")
def catalog(rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Row groups of 50 rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("galaxy_batch.catalog.files.ROW_GROUP_ROWS", 50)
        return publish_rows(tmp_path_factory.mktemp("sky"), rows, max_rows=200)


@pytest.fixture(scope="module")
def manifest(catalog: Path) -> CatalogManifest:
    return require_manifest(str(catalog))


def ids_at(catalog: Path, manifest: CatalogManifest, places: np.ndarray) -> list[int]:
    ids = []
    for file, group, row in places.tolist():
        with pq.ParquetFile(catalog / manifest.files[file].path) as parquet:
            ids.append(parquet.read_row_group(group, ["object_id"])["object_id"][row].as_py())
    return ids


@pytest.mark.parametrize(("queries", "wanted"), [(1, 10), (70, 3), (2, ROWS)])
def test_as_brute_force(catalog: Path, manifest: CatalogManifest, rows: pa.Table, queries: int, wanted: int) -> None:
    values, missing = unpacked_embeddings(rows[EMBEDDING])
    known = values[~missing].astype(np.float64)
    ids = rows["object_id"].to_numpy()[~missing]
    asked = np.random.default_rng(1).normal(0, 3, (queries, 6)).astype(np.float32)
    asked[0] = known[5]
    found = nearest_rows(str(catalog), list(manifest.embeddings.values()), asked, wanted)
    for query, nearest in list(zip(asked, found, strict=True))[:5]:
        distances = 1 - known @ query / np.linalg.norm(known, axis=1) / np.linalg.norm(query.astype(np.float64))
        order = np.argsort(distances)[:wanted]
        assert np.allclose(nearest.distances, distances[order], atol=1e-5)
        assert ids_at(catalog, manifest, nearest.places) == ids[order].tolist()
    assert found[0].distances[0] < 1e-6
    assert len(manifest.files) > 5


def test_very_similar_rows_are_told_apart(tmp_path: Path) -> None:
    """A matrix product in float32 rounds their distances to nothing."""
    rows = sky_rows(200, seed=3)
    values = np.stack([np.full(200, 1024.0), np.arange(200.0)], axis=1)
    missing = rows["predicted_class"].is_null().to_numpy()
    catalog = publish_rows(tmp_path, rows.append_column(EMBEDDING, packed_embeddings(values, missing)))
    manifest = require_manifest(str(catalog))
    (nearest,) = nearest_rows(str(catalog), list(manifest.embeddings.values()), np.array([[1.0, 0]], np.float32), 20)
    wanted = rows["object_id"].to_numpy()[~missing][:20].tolist()
    assert ids_at(catalog, manifest, nearest.places) == wanted
    assert np.allclose(nearest.distances[1:], 1 - np.cos(np.arctan2(values[~missing][1:20, 1], 1024)), rtol=1e-5)


def test_a_row_of_length_zero_is_at_a_right_angle(tmp_path: Path) -> None:
    rows = sky_rows(3, seed=3)
    values = np.array([[0.0, 0.0], [-1.0, 0.0], [2.0, 0.0]])
    catalog = publish_rows(tmp_path, rows.append_column(EMBEDDING, packed_embeddings(values, np.zeros(3, np.bool_))))
    files = list(require_manifest(str(catalog)).embeddings.values())
    (nearest,) = nearest_rows(str(catalog), files, np.array([[5.0, 0]], np.float32), 5)
    assert nearest.distances.tolist() == [0, 1, 2]


def test_embeddings_by_id(catalog: Path, manifest: CatalogManifest, rows: pa.Table) -> None:
    values, missing = unpacked_embeddings(rows[EMBEDDING])
    wanted = [int(np.flatnonzero(~missing)[7]), int(np.flatnonzero(missing)[0])]
    ids = rows["object_id"].take(wanted).combine_chunks()
    found = find_embeddings(str(catalog), list(manifest.embeddings.values()), pa.concat_arrays([ids, pa.array([5])]))
    assert found.keys() == set(ids.to_pylist())
    for row, object_id in zip(wanted, ids.to_pylist(), strict=True):
        place, embedding = found[object_id]
        assert ids_at(catalog, manifest, np.array([place])) == [object_id]
        assert (embedding is None) == missing[row]
        assert embedding is None or embedding.tolist() == values[row].tolist()
    assert len(read_catalog(catalog)) == ROWS


def test_on_an_object_store_that_fails_now_and_then(catalog: Path, manifest: CatalogManifest, s3: S3) -> None:
    for file in catalog.glob("embedding/**/*.pq"):
        s3.put(f"catalog/{file.relative_to(catalog)}", file.read_bytes())
    files, query = list(manifest.embeddings.values()), np.ones((1, 6), np.float32)
    s3.proxy.fail("catalog/", "503", times=2)
    (there,) = nearest_rows(f"{s3.uri}/catalog", files, query, 5)
    (here,) = nearest_rows(str(catalog), files, query, 5)
    assert there.places.tolist() == here.places.tolist()


def test_a_missing_file_is_named(catalog: Path, manifest: CatalogManifest) -> None:
    (file, *_) = manifest.embeddings.values()
    missing = type(file)("embedding/nothing.pq", 1, 1, "")
    with pytest.raises(InputError, match=r"nothing\.pq is missing: verify the catalog"):
        nearest_rows(str(catalog), [missing], np.zeros((1, 6), np.float32), 3)
