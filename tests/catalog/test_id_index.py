"""The index by object_id: which ids are in which file, and what a file contains."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog import id_index
from galaxy_batch.catalog.id_index import index_rows, index_schema, limits_of, range_of, sampled_ids, write_index_file
from galaxy_batch.sky.healpix import Tile
from tests.support.skies import sky_rows


def test_files_have_about_equally_many_ids() -> None:
    rng = np.random.default_rng(1)
    ids = rng.integers(-(2**63), 2**63 - 1, 50_000) // 1000
    limits = limits_of(rng.choice(ids, 500).tolist(), len(ids), 1000)
    assert limits == sorted(set(limits))
    assert len(limits) == 12  # 13 files of up to 4,000
    sizes = np.bincount(range_of(pa.chunked_array([ids]), limits))
    assert sizes.sum() == 50_000
    assert sizes.max() < 6000


@pytest.mark.parametrize("sample", [[], [5], [5] * 10])
def test_a_sample_that_says_little_makes_few_files(sample: list[int]) -> None:
    limits = limits_of(sample, 1_000_000, 1000)
    assert limits == sample[:1]
    assert limits_of(sample, 4000, 1000) == []


def test_ranges_are_in_the_order_in_which_texts_are_sorted() -> None:
    ids = pa.chunked_array([["b", "é", "a", "aa", "B", "\U0001f30c", "\uffff"]])
    ordered = pa.table({"id": ids}).sort_by("id")["id"]
    limits = ordered.to_pylist()[2::2]
    numbers = range_of(ordered, limits)
    assert numbers.tolist() == [0, 0, 1, 1, 2, 2, 3]


def test_which_ids_are_sampled_does_not_depend_on_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(id_index, "_SAMPLED", 0.1)
    rows = sky_rows(2000, seed=3, without_position=0.2)
    sample = set(sampled_ids(rows).to_pylist())
    assert sample == set(sampled_ids(rows.slice(0, 700)).to_pylist()) | set(sampled_ids(rows.slice(700)).to_pylist())
    assert 100 < len(sample) < 230
    assert sample <= set(rows.filter(rows["ra"].is_valid())["object_id"].to_pylist())


def test_a_file_has_the_pixel_of_each_id(tmp_path: Path) -> None:
    rows = sky_rows(20, text_ids=True)
    index = index_rows(rows, Tile(3, 700, 20))
    file, _ = write_index_file(index, "index/part.parquet", str(tmp_path))
    table = pq.read_table(tmp_path / "index" / "part.parquet")
    assert table.schema.equals(index_schema(pa.string()))
    assert table["object_id"].to_pylist() == rows["object_id"].to_pylist()
    assert table["_healpix_29"].to_pylist() == rows["_healpix_29"].to_pylist()
    assert set(table["Norder"].to_pylist()) == {3}
    assert set(table["Npix"].to_pylist()) == {700}
    assert (file.rows, file.bytes) == (20, (tmp_path / "index" / "part.parquet").stat().st_size)
