"""Manifests of tests: their settings, and their rows as a run reads them."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from galaxy_batch.config import ManifestConfig
from galaxy_batch.inputs.manifest import open_manifest, read_chunk


def manifest_config(path: Path | str, **settings: Any) -> ManifestConfig:
    """Settings of a table with the columns `objid`, `ra` and `dec`."""
    defaults = {"id_column": "objid", "ra_column": "ra", "dec_column": "dec", "uri_template": "{objid}.jpg"}
    return ManifestConfig(uri=str(path), **{**defaults, **settings})


def manifest_rows(config: ManifestConfig, chunk_rows: int = 100) -> pa.Table:
    """All rows of a manifest, read chunk by chunk."""
    chunks = open_manifest(config, chunk_rows).chunks
    return pa.concat_tables([read_chunk(pa.Table.from_pylist([c.as_item()]), config) for c in chunks])
