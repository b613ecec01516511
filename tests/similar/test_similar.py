"""`find_similar` from the command line: table, page, and errors before anything is written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.embeddings import unpacked_embeddings
from galaxy_batch.errors import InputError
from galaxy_batch.rows import EMBEDDING
from galaxy_batch.similar.config import SimilarConfig
from galaxy_batch.similar.similar import find_similar
from tests.support.jobs import CallJob
from tests.support.skies import publish_rows, read_catalog, sky_rows, with_embeddings

ROWS = 300


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return with_embeddings(sky_rows(ROWS, seed=8, without_position=0.1))


@pytest.fixture(scope="module")
def catalog(rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_rows(tmp_path_factory.mktemp("sky") / "release", rows, max_rows=100)


def seen_ids(rows: pa.Table, count: int) -> list[int]:
    """Ids of rows that have an image."""
    ids: list[int] = rows.filter(rows["predicted_class"].is_valid())["object_id"].to_pylist()[:count]
    return ids


def by_brute_force(rows: pa.Table, query: int, k: int) -> list[int]:
    values, missing = unpacked_embeddings(rows[EMBEDDING])
    units = values / np.maximum(np.linalg.norm(values.astype(np.float64), axis=1, keepdims=True), 1e-9)
    ids = rows["object_id"].to_numpy()
    cosines = np.where(missing | (ids == query), -2, units @ units[ids == query][0])
    found: list[int] = ids[np.argsort(-cosines)[:k]].tolist()
    return found


def test_the_job_writes_a_table_and_a_page(catalog: Path, rows: pa.Table, tmp_path: Path, call_job: CallJob) -> None:
    asked = seen_ids(rows, 2)
    arguments = ("--ids", ",".join(map(str, asked)), "--k", "7", "--to", str(tmp_path / "similar.parquet"))
    ended = call_job("find_similar", str(catalog), *arguments)
    assert ended.code == 0, ended.log
    summary = json.loads(ended.stdout.splitlines()[-1])
    assert (summary["queries"], summary["rows"]) == (2, 14)
    assert summary["searched"] == ROWS - rows["predicted_class"].null_count
    table = pq.read_table(tmp_path / "similar.parquet")
    assert table.column_names == [
        "query", "rank", "object_id", "distance", "predicted_class", "confidence", "ra", "dec",
    ]  # fmt: skip
    assert (table.schema.field("query").type, table.schema.field("object_id").type) == (pa.int64(), pa.int64())
    published = {row["object_id"]: row for row in read_catalog(catalog).to_pylist()}
    for number, query in enumerate(asked):
        of_query = table.slice(7 * number, 7)
        assert set(of_query["query"].to_pylist()) == {query}
        assert of_query["rank"].to_pylist() == list(range(1, 8))
        assert of_query["object_id"].to_pylist() == by_brute_force(rows, query, 7)
        assert np.all(np.diff(of_query["distance"].to_numpy()) >= 0)
    for row in table.to_pylist():
        for name in ("predicted_class", "confidence", "ra", "dec"):
            assert row[name] == published[row["object_id"]][name]
    page = Path(summary["report_uri"])
    assert page == catalog.parent / "similar" / "index.html"
    html = page.read_text()
    for object_id in (*asked, *table["object_id"].to_pylist()):
        assert str(object_id) in html
    assert "legacysurvey.org" in html
    assert verify_catalog(str(catalog)) == []


def test_ids_are_exact_in_csv(catalog: Path, rows: pa.Table, tmp_path: Path) -> None:
    (asked,) = seen_ids(rows, 1)
    find_similar(SimilarConfig(str(catalog), (str(asked),), k=3, output_uri=str(tmp_path / "table.csv"),
                               report_uri=str(tmp_path / "page")))  # fmt: skip
    table = pd.read_csv(tmp_path / "table.csv")
    assert table["object_id"].tolist() == by_brute_force(rows, asked, 3)
    assert table["query"].tolist() == [asked] * 3
    assert (tmp_path / "page" / "index.html").is_file()


def test_text_ids_and_fewer_rows_than_asked_for(tmp_path: Path) -> None:
    rows = with_embeddings(sky_rows(12, seed=1, text_ids=True))
    catalog = publish_rows(tmp_path / "release", rows)
    asked = rows.filter(rows["predicted_class"].is_valid())["object_id"][0].as_py()
    output = tmp_path / "table.parquet"
    summary = find_similar(SimilarConfig(str(catalog), (asked,), k=100, output_uri=str(output)))
    assert summary["rows"] == summary["searched"] - 1 == len(pq.read_table(output))
    assert asked not in pq.read_table(output)["object_id"].to_pylist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ids": ("5",)}, "ids = '5': is not in the catalog"),
        ({"ids": ("five",)}, "ids of this catalog are 64-bit integers"),
        ({"ids": ("1", "1")}, "is given twice"),
        ({}, "give ids of the catalog, or image_uri, and not both"),
        ({"ids": ("1",), "image_uri": "a.jpg"}, "give ids of the catalog, or image_uri, and not both"),
        ({"ids": ("5",), "output_uri": "similar.txt"}, "unknown file ending"),
        ({"ids": ("5",), "report_uri": "{catalog}/page"}, "is inside the catalog's folder"),
        ({"image_uri": "/nowhere.jpg"}, "checkpoint_uri"),
    ],
)
def test_what_cannot_be_searched_for(catalog: Path, settings: dict[str, Any], message: str) -> None:
    if "report_uri" in settings:
        settings = {**settings, "report_uri": settings["report_uri"].format(catalog=catalog)}
    with pytest.raises(InputError, match=message):
        find_similar(SimilarConfig(str(catalog), **settings))


def test_a_row_without_an_image_and_a_catalog_without_embeddings(
    catalog: Path, rows: pa.Table, tmp_path: Path, call_job: CallJob
) -> None:
    failed = rows.filter(rows["predicted_class"].is_null())["object_id"][0].as_py()
    ended = call_job("find_similar", str(catalog), "--ids", str(failed))
    assert ended.code == 2
    assert "has no image in the catalog" in ended.log
    without = publish_rows(tmp_path, rows.drop_columns([EMBEDDING]))
    with pytest.raises(InputError, match="has no embeddings"):
        find_similar(SimilarConfig(str(without), (str(failed),)))
