"""Settings of a packing job."""

from dataclasses import dataclass, field
from typing import Annotated

from galaxy_batch.config import ManifestConfig, RuntimeConfig
from galaxy_batch.settings import Range, Uri

__all__ = ["PackConfig"]


@dataclass(frozen=True)
class PackConfig:
    """Many small cutouts into few large files: a manifest, and where its shards go."""

    output_uri: Annotated[str, Uri]
    """Folder (any fsspec URI) that gets `shards/` and `manifest.json`; one folder holds one manifest's shards."""
    manifest: ManifestConfig
    shard_bytes: Annotated[int, Range(1 << 20, 2 << 30)] = 256 << 20
    """Size that a shard should have, about; a worker holds one shard in memory."""
    row_group_rows: Annotated[int, Range(1, 1_000_000)] = 1024
    """Rows per row group: with as many as `classify.chunk_rows`, a chunk of the catalog job is one row group."""
    max_image_bytes: Annotated[int, Range(1024, 1 << 30)] = 20 << 20
    """A cutout with more encoded bytes than this is left out: status `too_large`."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    max_failed_fraction: Annotated[float, Range(0, 1)] = 0.05
    """More rows without an image than this share: no `manifest.json`, exit code 3."""
    keep_unreachable: bool = False
    """Pack rows whose store does not answer without an image; when not, their shards wait for another run."""
    overwrite: bool = False
    """Replace shards in `output_uri` that were made from another manifest or with other settings."""
