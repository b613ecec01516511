"""Settings of the job that packs cutouts into shards."""

from dataclasses import dataclass, field
from typing import Annotated

from galaxy_batch.config import ManifestConfig, RuntimeConfig, check_cutout_size
from galaxy_batch.settings import Range, Uri

__all__ = ["PackConfig"]


@dataclass(frozen=True)
class PackConfig:
    """Settings of a packing job: manifest, output and size of the shards."""

    output_uri: Annotated[str, Uri]
    """Folder (any fsspec URI) for `shards/` and `manifest.json`. It holds the shards of one manifest only."""
    manifest: ManifestConfig
    shard_bytes: Annotated[int, Range(1 << 20, 2 << 30)] = 256 << 20
    """Approximate size of a shard. A worker holds one shard in memory."""
    row_group_rows: Annotated[int, Range(1, 1_000_000)] = 1024
    """Rows per Parquet row group. Equal to `classify.chunk_rows`, one chunk of the catalog job is one row group."""
    max_image_bytes: Annotated[int, Range(1024, 1 << 30)] = 20 << 20
    """Largest encoded cutout in bytes; a larger one is left out and gets the status `too_large`."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    max_failed_fraction: Annotated[float, Range(0, 1)] = 0.05
    """Largest fraction of rows without an image. If exceeded, no `manifest.json` is written and the exit code is 3."""
    keep_unreachable: bool = False
    """Pack rows whose store did not respond, without an image. Otherwise another run packs their shards."""
    overwrite: bool = False
    """Replace shards in `output_uri` that were made from another manifest or with other settings."""

    def __post_init__(self) -> None:
        if self.manifest.tiles is not None:
            check_cutout_size(self.manifest.tiles, self.max_image_bytes, "max_image_bytes")
