"""Files of a catalog as `manifest.json` lists them, and what the files of HATS say of others."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow.parquet as pq

from galaxy_batch.catalog import hats
from galaxy_batch.catalog.files import MetadataFile, RowFile
from galaxy_batch.catalog.verify_file import header_problems, schema_problem
from galaxy_batch.storage.files import join, read_bytes

__all__ = ["listed_content", "merged_metadata_problems", "properties_problems", "row_group_problems"]

_MAY_DIFFER = ("hats_builder", "hats_creation_date")


def listed_content(folder_uri: str, file: RowFile | MetadataFile, problems: list[str]) -> bytes | None:
    """A file's bytes, None where it is missing; adds a problem where size or checksum are not as listed."""
    try:
        content = read_bytes(join(folder_uri, file.path))
    except FileNotFoundError:
        problems.append("is missing")
        return None
    if len(content) != file.bytes:
        problems.append(f"has {len(content)} bytes, not {file.bytes}")
    elif hashlib.sha256(content).hexdigest() != file.sha256:
        problems.append("its content has changed (sha256)")
    return content


def properties_problems(properties: Mapping[str, str], expected: Mapping[str, object]) -> Iterator[str]:
    """Entries that are missing, or are others than expected."""
    for key, value in expected.items():
        if key not in properties:
            yield f"{key} is missing"
        elif key not in _MAY_DIFFER and properties[key] != str(value):
            yield f"{key} is {properties[key]}, not {value}"


def merged_metadata_problems(
    metadata: pq.FileMetaData, schema: Mapping[str, str], footers: Mapping[str, pq.FileMetaData]
) -> Iterator[str]:
    """Whether the schema, its header and the row groups, with their statistics, are those of the files.

    Args:
        metadata: of all files in one, or the common one, which has no row groups.
        schema: name and type of each column, in order.
        footers: of each file, by its path below the catalog's folder; none for the common one.
    """
    problem = schema_problem(metadata.schema.to_arrow_schema(), schema)
    if problem:
        yield problem
        return
    yield from header_problems(metadata.schema.to_arrow_schema())
    yield from row_group_problems(metadata, footers)


def row_group_problems(metadata: pq.FileMetaData, footers: Mapping[str, pq.FileMetaData]) -> Iterator[str]:
    """Files whose row groups are not those that the merged metadata has of them."""
    merged = _row_groups(metadata)
    expected: dict[str, list[dict[str, Any]]] = {}
    for name, footer in footers.items():
        expected |= {name.removeprefix(f"{hats.DATASET}/"): part for part in _row_groups(footer).values()}
    for name in sorted(merged.keys() | expected.keys()):
        if merged.get(name) != expected.get(name):
            yield f"its row groups of {name} are not those of the file"


def _row_groups(metadata: pq.FileMetaData) -> dict[str, list[dict[str, Any]]]:
    """Row groups by the path of their file, as plain values without that path."""
    by_path: dict[str, list[dict[str, Any]]] = {}
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number).to_dict()
        paths = {column.pop("file_path") for column in group["columns"]}
        by_path.setdefault(min(paths), []).append(group)
    return by_path
