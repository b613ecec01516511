import pyarrow as pa
import pytest

from galaxy_batch.inputs.plain_types import is_binary, is_text, plain, value_type


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array(["a", None, "a"]), pa.string()),
        (pa.array(["a", None, "a"], pa.large_string()), pa.large_string()),
        (pa.array(["a", None, "a"], pa.string_view()), pa.string()),
        (pa.array(["a", None, "a"]).dictionary_encode(), pa.string()),
        (pa.array([b"a", None, b"a"], pa.binary_view()), pa.large_binary()),
        (pa.array([1, None, 1]).dictionary_encode(), pa.int64()),
        (pa.array(["1", None, "1"], pa.json_()), pa.string()),
    ],
    ids=["text", "large text", "view", "categorical", "binary view", "categorical integers", "extension"],
)
def test_the_plain_type_has_the_same_values(column: pa.Array, kind: pa.DataType) -> None:
    result = plain(pa.chunked_array([column]))
    assert (result.type, value_type(column.type)) == (kind, kind)
    assert result.to_pylist() == column.to_pylist()


def test_families() -> None:
    assert [is_text(k) for k in (pa.string(), pa.string_view(), pa.binary(), pa.int8())] == [True, True, False, False]
    assert [is_binary(k) for k in (pa.binary(4), pa.large_binary(), pa.string())] == [True, True, False]
