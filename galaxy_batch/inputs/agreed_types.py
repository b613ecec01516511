"""The types of the kept columns, on which all files of a manifest must agree before anything starts."""

from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.errors import InputError

__all__ = ["INFERRED", "AgreedTypes"]

INFERRED = b"inferred"
"""Key in the metadata of fields whose type is not declared but follows from the text of their values."""

_EXACT_IN_FLOAT64 = 2**53


@dataclass
class _Seen:
    """What the files have shown so far of one column: each type with the first file that has it."""

    files: dict[pa.DataType, str] = field(default_factory=dict)
    inferred: set[pa.DataType] = field(default_factory=set)
    """Types that no file declares."""
    low: int = 0
    high: int = 0
    """Range of its integers, 0 included."""


class AgreedTypes:
    """Collects the types of kept columns file by file; null, and types that keep every value exactly, are merged."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def add(self, rows: pa.Table, names: tuple[str, ...], file: str) -> None:
        """Take in some rows of one file.

        Raises:
            InputError: a column's type does not go together with that of another file.
        """
        for name in names:
            seen = self._seen.setdefault(name, _Seen())
            kind, metadata = rows.schema.field(name).type, rows.schema.field(name).metadata or {}
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind
            if INFERRED not in metadata:
                seen.inferred.discard(kind)
            elif kind not in seen.files:
                seen.inferred.add(kind)
            seen.files.setdefault(kind, file)
            if pa.types.is_integer(kind) and rows[name].null_count < len(rows):
                limits = pc.min_max(rows[name])
                seen.low, seen.high = min(seen.low, limits["min"].as_py()), max(seen.high, limits["max"].as_py())
            if len(seen.files) > 1 and _common_type(seen) is None:
                raise InputError("manifest.keep_columns", name, _conflict(seen, kind))

    def schema(self) -> pa.Schema:
        """Fields of the kept columns, in the order of `keep_columns`."""
        return pa.schema([(name, _common_type(seen)) for name, seen in self._seen.items()])


def _common_type(seen: _Seen) -> pa.DataType | None:
    """The type that all files can be converted to without changing a value; None where there is none."""
    kinds = set(seen.files) - {pa.null()}
    if len(kinds) <= 1 and pa.uint64() not in kinds:
        return next(iter(kinds), pa.null())
    integers = {kind for kind in kinds if pa.types.is_integer(kind)}
    floats = {kind for kind in kinds if pa.types.is_floating(kind)}
    if kinds == integers:
        if pa.uint64() not in kinds and (
            all(map(pa.types.is_signed_integer, kinds)) or all(map(pa.types.is_unsigned_integer, kinds))
        ):
            return max(kinds, key=lambda kind: kind.bit_width)
        return pa.int64() if seen.high < 2**63 else pa.string()  # VOTable has no type for larger ones
    if kinds == integers | floats:
        if not integers:
            return max(kinds, key=lambda kind: kind.bit_width)
        return pa.float64() if max(-seen.low, seen.high) <= _EXACT_IN_FLOAT64 else None
    texts = {kind for kind in kinds if pa.types.is_string(kind) or pa.types.is_large_string(kind)}
    return pa.string() if kinds - texts <= integers & seen.inferred else None  # such integers are spelt as they are


def _conflict(seen: _Seen, kind: pa.DataType) -> str:
    file, others = seen.files[kind], [(k, f) for k, f in seen.files.items() if k not in (kind, pa.null())]
    other_kind, other_file = next(
        (pair for pair in others if _common_type(replace(seen, files={pair[0]: "", kind: ""})) is None), others[0]
    )
    return (
        f"{other_kind} in {other_file} and {kind} in {file}, which cannot be one type without changing values: "
        "write the column with one type in all files, or leave it out"
    )
