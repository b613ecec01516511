"""Embeddings keep their values and nulls when packed, sliced, sorted, joined and written."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.embeddings import (
    HALF_MAX,
    embedding_lists,
    embedding_type,
    embedding_values,
    packed_embeddings,
    unpacked_embeddings,
)

ROWS, SIZE = 30, 5
VALUES = np.random.default_rng(4).normal(0, 9, (ROWS, SIZE)).astype(np.float16)
MISSING = np.arange(ROWS) % 7 == 0


def packed() -> pa.ChunkedArray:
    column = packed_embeddings(VALUES, MISSING)
    return pa.chunked_array([column.slice(0, 11), column.slice(11)])


def check(values: np.ndarray, missing: np.ndarray, rows: np.ndarray) -> None:
    assert missing.tolist() == MISSING[rows].tolist()
    assert np.array_equal(values[~missing], VALUES[rows][~missing])


def test_slices_keep_their_rows() -> None:
    check(*unpacked_embeddings(packed()), np.arange(ROWS))
    check(*unpacked_embeddings(packed().slice(3, 20)), np.arange(3, 23))
    lists = pa.chunked_array([embedding_lists(packed())])
    assert lists.type == embedding_type(SIZE)
    check(*embedding_values(pa.chunked_array([lists.chunk(0).slice(2, 5), lists.chunk(0).slice(20)])),
          np.r_[2:7, 20:ROWS])  # fmt: skip


def test_joined_sorted_and_read_from_parquet() -> None:
    rows = pa.table({"id": np.arange(ROWS), "packed": packed(), "lists": embedding_lists(packed())})
    joined = pa.table({"id": np.arange(10, 50)}).join(rows.drop_columns(["lists"]), "id", join_type="inner")
    check(*unpacked_embeddings(joined.sort_by("id")["packed"]), np.arange(10, ROWS))
    check(*unpacked_embeddings(rows.sort_by([("id", "descending")])["packed"]), np.arange(ROWS)[::-1])
    sink = io.BytesIO()
    pq.write_table(rows, sink)
    read = pq.read_table(sink)
    check(*unpacked_embeddings(read["packed"]), np.arange(ROWS))
    check(*embedding_values(read["lists"]), np.arange(ROWS))


def test_no_rows_and_no_embeddings() -> None:
    nothing = pa.chunked_array([packed_embeddings(np.empty((0, SIZE)), np.empty(0, np.bool_))])
    assert unpacked_embeddings(nothing)[0].shape == (0, SIZE)
    none = pa.chunked_array([packed_embeddings(VALUES, np.ones(ROWS, np.bool_))])
    assert embedding_lists(none).null_count == ROWS


def test_values_beyond_float16_stay_finite() -> None:
    values, _ = unpacked_embeddings(pa.chunked_array([packed_embeddings(np.array([[1e9, -1e9]]), np.zeros(1, bool))]))
    assert values.tolist() == [[HALF_MAX, -HALF_MAX]]


def test_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="list"):
        embedding_values(pa.chunked_array([[[1.0, 2.0]]]))
