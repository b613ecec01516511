"""Families of Arrow types: text, binary, and the plain type behind dictionaries, views and extension types."""

import pyarrow as pa

__all__ = ["is_binary", "is_text", "plain", "value_type"]


def is_text(kind: pa.DataType) -> bool:
    """Whether it is a type of text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_binary(kind: pa.DataType) -> bool:
    """Whether it is a type of bytes, of fixed length or not."""
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def value_type(kind: pa.DataType) -> pa.DataType:
    """The plain type: of the values of a dictionary, of the storage of an extension type, without views."""
    if isinstance(kind, pa.BaseExtensionType):
        return value_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return value_type(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    return pa.large_binary() if pa.types.is_binary_view(kind) else kind


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as its plain type (categories become the texts or numbers that they stand for)."""
    if isinstance(column.type, pa.BaseExtensionType):
        storage = [chunk.storage for chunk in column.chunks]
        column = pa.chunked_array(storage, column.type.storage_type)
    return column.cast(value_type(column.type)) if value_type(column.type) != column.type else column
