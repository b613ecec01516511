from typing import Any

import pyarrow as pa
import pytest

from galaxy_batch.errors import InputError
from galaxy_batch.inputs.agreed_types import INFERRED, AgreedTypes


def agreed(*columns: pa.Array, inferred: bool = False) -> pa.DataType:
    types = AgreedTypes()
    for number, column in enumerate(columns):
        field = pa.field("z", column.type, metadata={INFERRED: b"true"} if inferred else None)
        types.add(pa.table([column], schema=pa.schema([field])), ("z",), f"{number}.parquet")
    return types.schema().field("z").type


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ([pa.array([0.5]), pa.nulls(1)], pa.float64()),
        ([pa.nulls(1), pa.array(["a"])], pa.string()),
        ([pa.nulls(1), pa.nulls(1)], pa.null()),
        ([pa.array([1], pa.int32()), pa.array([2**40])], pa.int64()),
        ([pa.array([1], pa.uint8()), pa.array([2], pa.uint32())], pa.uint32()),
        ([pa.array([2**63], pa.uint64()), pa.array([-5])], pa.string()),
        ([pa.array([2**63], pa.uint64())], pa.string()),
        ([pa.array([5, None], pa.uint64())], pa.int64()),
        ([pa.array([7], pa.uint64()), pa.array([-5])], pa.int64()),
        ([pa.array([0.5], pa.float32()), pa.array([0.5])], pa.float64()),
        ([pa.array([0.5]), pa.array([2**53, None])], pa.float64()),
        ([pa.array(["a"]), pa.array(["b"], pa.large_string())], pa.string()),
        ([pa.array(["a"]), pa.array(["b"]).dictionary_encode()], pa.string()),
    ],
)
def test_types_are_merged_where_every_value_stays_exact(columns: list[pa.Array], kind: pa.DataType) -> None:
    assert agreed(*columns) == agreed(*columns[::-1]) == kind


@pytest.mark.parametrize(
    ("first", "second", "kinds"),
    [
        (pa.array([0.5]), pa.array(["a"]), "double in 0.parquet and string in 1.parquet"),
        (pa.array([0.5]), pa.array([2**53 + 1]), "double in 0.parquet and int64 in 1.parquet"),
        (pa.array([1]), pa.array(["1"]), "int64 in 0.parquet and string in 1.parquet"),
        (pa.array([True]), pa.array([1]), "bool in 0.parquet and int64 in 1.parquet"),
    ],
)
def test_other_types_are_refused_naming_column_files_and_types(first: Any, second: Any, kinds: str) -> None:
    with pytest.raises(InputError, match=rf"manifest\.keep_columns = 'z': {kinds}"):
        agreed(first, second)


def test_a_later_value_that_is_not_exact_is_refused() -> None:
    with pytest.raises(InputError, match=r"double in 0\.parquet and int64 in 1\.parquet"):
        agreed(pa.array([0.5]), pa.array([1]), pa.array([2**60]))


def test_inferred_integers_become_text_beside_text() -> None:
    assert agreed(pa.array([7]), pa.array(["007"]), inferred=True) == pa.string()
