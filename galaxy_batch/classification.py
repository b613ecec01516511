"""Classification in this process, without Ray and without files: for notebooks, and surveys that fit in memory."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from galaxy_batch.config import ClassifyConfig, ManifestConfig, ReviewConfig, RuntimeConfig
from galaxy_batch.inputs.manifest import read_chunk
from galaxy_batch.model.classifier import Classifier
from galaxy_batch.model.engines.choose import choose_engine
from galaxy_batch.model.engines.engine import BATCH_SIZES, EngineName
from galaxy_batch.plan import review_limits
from galaxy_batch.review.flags import flag_for_review, flag_repeated_images, repeated_hashes
from galaxy_batch.rows import catalog_schema
from galaxy_batch.settings import parse_config, resolve_uri
from galaxy_batch.tiles.cutouts import read_cutouts
from galaxy_batch.tiles.grouping import open_by_tile

__all__ = ["classify_objects"]

_CHUNK_ROWS = 1024
_OF_A_RELEASE = ("release", "model_id")  # columns that only a published catalog has


def classify_objects(uri: str | Path, checkpoint_uri: str, **manifest: Any) -> pa.Table:
    """Classify and flag every object of a manifest, in its order; see `galaxy_batch.classify`.

    A cutout that crashes its decoder ends this process; `jobs.build_catalog` isolates it.

    Raises:
        InputError: the manifest or the checkpoint cannot be used.
    """
    config = parse_config(ManifestConfig, {"uri": str(uri), **manifest})
    limits, review = ClassifyConfig(), ReviewConfig()
    objects = open_by_tile(config, _CHUNK_ROWS, memory_uri=None)
    engine: EngineName = "cuda" if _has_gpu() else choose_engine()
    threads = os.cpu_count() or 1
    classifier = Classifier(resolve_uri(checkpoint_uri), limits, BATCH_SIZES[engine], engine, "fp32", threads)
    checkpoint = classifier.checkpoint
    flagging = review_limits(review, checkpoint, config)
    schema = catalog_schema(
        objects.id_type,
        checkpoint.spec.classes,
        objects.kept,
        checkpoint.spec.questions,
        image_uri=config.keep_image_uri,
    )
    schema = pa.schema([column for column in schema if column.name not in _OF_A_RELEASE])
    tables = []
    for chunk in objects.chunks:
        rows = read_chunk(chunk.as_table(), config)
        rows = read_cutouts(rows, config, limits.max_image_bytes, RuntimeConfig().requests_per_host)
        rows = flag_for_review(classifier(rows), flagging)
        tables.append(pa.table([rows[column.name].cast(column.type) for column in schema], schema=schema))
    return _with_repeated_images(pa.concat_tables(tables), review)


def _has_gpu() -> bool:
    """Whether torch can use a GPU; torch, which takes seconds, is not asked where there is no driver."""
    if shutil.which("nvidia-smi") is None:
        return False
    import torch  # noqa: PLC0415

    return torch.cuda.is_available()


def _with_repeated_images(rows: pa.Table, review: ReviewConfig) -> pa.Table:
    """Set REPEATED_IMAGE, which all rows decide; the schema stays as it is."""
    hashes = rows["image_hash"].drop_null().to_numpy()
    flagged = flag_repeated_images(rows, repeated_hashes(hashes, np.ones(len(hashes), np.int64), review))
    return flagged.cast(rows.schema)
