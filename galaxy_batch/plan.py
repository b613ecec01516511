"""The plan of a run: input, output, chunks left to do. Checks all that can be checked before Ray starts."""

import contextlib
import dataclasses
import logging
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from galaxy_batch.catalog.layout import Layout, fingerprint
from galaxy_batch.catalog.manifest import CatalogManifest, read_manifest
from galaxy_batch.catalog.parts import finished_parts
from galaxy_batch.config import CatalogConfig, ManifestConfig, ReviewConfig, fingerprint_settings
from galaxy_batch.errors import InputError, without_credentials
from galaxy_batch.inputs.columns import check_kept_names, kept_columns
from galaxy_batch.inputs.manifest import Chunk, Manifest
from galaxy_batch.model.checkpoint import Checkpoint, read_checkpoint
from galaxy_batch.model.engines.engine import Precision
from galaxy_batch.reuse.predictions import read_predictions
from galaxy_batch.reuse.previous import PreviousCatalog, open_previous, verify_previous
from galaxy_batch.review.flags import ReviewLimits
from galaxy_batch.rows import Status, catalog_schema
from galaxy_batch.storage.files import check_writable, without_secrets
from galaxy_batch.tiles.grouping import open_by_tile

if TYPE_CHECKING:
    from galaxy_batch.runtime.workers import Workers

__all__ = ["ReleasePlan", "plan_release", "review_limits", "versions"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReleasePlan:
    """A run whose input and output are checked, and the chunks that are left to do."""

    config: CatalogConfig
    checkpoint: Checkpoint
    manifest: Manifest
    layout: Layout
    todo: tuple[Chunk, ...]
    """Chunks without a part, or with `unreachable` rows in it."""
    retry: tuple[Chunk, ...]
    """Chunks with `missing` rows in their part: computed again if such a cutout exists by now, see `missing`."""
    published: CatalogManifest | None
    """The manifest of a catalog that was made from exactly this; then there is nothing to do."""
    previous: PreviousCatalog | None = None
    """The catalog of `reuse_from`; None without one, or when nothing is to do."""

    @property
    def review_limits(self) -> ReviewLimits:
        """The settings by which rows are flagged: the config's, where it has none the checkpoint's."""
        return review_limits(self.config.review, self.checkpoint, self.config.manifest)

    @property
    def schema(self) -> pa.Schema:
        """The catalog's schema."""
        spec, config = self.checkpoint.spec, self.config.classify
        return catalog_schema(
            self.manifest.id_type,
            spec.classes,
            self.manifest.kept,
            spec.questions,
            config.concentrations,
            self.config.manifest.keep_image_uri,
        )

    @property
    def shown_config(self) -> dict[str, Any]:
        """The config as it is written down: URIs without secrets, or only without credentials where they are kept."""
        shown: dict[str, Any] = _without_secrets(dataclasses.asdict(self.config))
        manifest = self.config.manifest
        if manifest.keep_image_uri:
            template, bands = manifest.uri_template, manifest.band_templates
            shown["manifest"]["uri_template"] = template and without_credentials(template)
            shown["manifest"]["band_templates"] = tuple(map(without_credentials, bands))
        return shown

    def model_arguments(self, workers: "Workers") -> dict[str, Any]:
        """Arguments of the Classifier."""
        return {
            "checkpoint_uri": self.config.checkpoint_uri,
            "config": self.config.classify,
            "batch_size": workers.batch_size,
            "engine": workers.engine,
            "precision": self.config.classify.precision,
            "threads": workers.threads,
        }


def review_limits(config: ReviewConfig, checkpoint: Checkpoint, manifest: ManifestConfig) -> ReviewLimits:
    """The settings by which rows are flagged: the config's, where it has none the checkpoint's."""
    review = dataclasses.asdict(config)
    for name in ("min_confidence", "max_unfamiliarity", "max_instability"):
        review[name] = getattr(checkpoint, name) if review[name] is None else review[name]
    empty = None if manifest.tiles is None else manifest.tiles.max_empty_fraction
    return ReviewLimits(**review, has_positions=manifest.ra_column is not None, max_empty_fraction=empty)


def plan_release(config: CatalogConfig) -> ReleasePlan:
    """Check the checkpoint, the manifest and the output, and find out which chunks are left to do. Needs no Ray.

    Raises:
        InputError: something in the config cannot be used.
    """
    file = read_checkpoint(config.checkpoint_uri)
    checkpoint = file.checkpoint
    _check_flags(config, checkpoint, file.has_statistics)
    _check_embedding(config, checkpoint)
    with _store_errors("manifest.uri", config.manifest.uri, "read"):
        headers_uri = Layout(config.output_uri, config.release, checkpoint.checkpoint_id, "").tiles
        manifest = open_by_tile(config.manifest, config.classify.chunk_rows, headers_uri)
    spec = checkpoint.spec
    own = catalog_schema(
        manifest.id_type,
        spec.classes,
        (),
        spec.questions,
        config.classify.concentrations,
        config.manifest.keep_image_uri,
    )
    check_kept_names(kept_columns(config.manifest), own.names)
    config = _with_precision(config, checkpoint)
    made_from = manifest.content_id, checkpoint.checkpoint_id
    mark = fingerprint(*made_from, _settings(config))
    layout = Layout(config.output_uri, config.release, checkpoint.checkpoint_id, mark)
    published = _published(config, layout, fingerprint(*made_from, _older_settings(config)))
    if published is None:
        check_writable(layout.root, config.output_uri)
    with _store_errors("output_uri", config.output_uri, "listed"):
        done = finished_parts(layout.parts, config.keep_unreachable)
    todo = tuple(chunk for chunk in manifest.chunks if chunk.index not in done)
    retry = tuple(chunk for chunk in manifest.chunks if done.get(chunk.index) == Status.MISSING)
    plan = ReleasePlan(config, checkpoint, manifest, layout, todo, retry, published)
    if config.reuse_from is None or published is not None or not (todo or retry):
        return plan
    return dataclasses.replace(plan, previous=_verified_previous(plan))


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that compute and write a catalog."""
    packages = ("galaxy-batch", "ray", "torch", "timm", "pillow", "pyarrow")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _with_precision(config: CatalogConfig, checkpoint: Checkpoint) -> CatalogConfig:
    """The config with `classify.precision` decided."""
    if config.classify.precision != "auto":
        return config
    precision: Precision = "bf16" if checkpoint.bf16_agrees else "fp32"
    return dataclasses.replace(config, classify=dataclasses.replace(config.classify, precision=precision))


def _published(config: CatalogConfig, layout: Layout, older_fingerprint: str) -> CatalogManifest | None:
    """The catalog that a run with this config has published; None where there is none, or it is to be replaced."""
    with _store_errors("output_uri", config.output_uri, "read"):
        catalog = read_manifest(layout.catalog, "output_uri")
    if catalog is None or catalog.fingerprint in (layout.fingerprint, older_fingerprint):
        return catalog
    if not config.overwrite:
        raise InputError(
            "output_uri",
            layout.catalog,
            "a catalog made from another manifest or other settings is published here; set overwrite = true to "
            "replace it, or choose another release name or output_uri",
        )
    return None


def _check_flags(config: CatalogConfig, checkpoint: Checkpoint, has_statistics: bool) -> None:
    """Log which flags this checkpoint cannot set, and refuse limits for these."""
    views = max(checkpoint.spec.views, config.classify.stability_views)
    if not has_statistics:
        if config.review.max_unfamiliarity is not None:
            remedy = "the checkpoint has no statistics of its training galaxies; train it again, or leave this out"
            raise InputError("review.max_unfamiliarity", config.review.max_unfamiliarity, remedy)
        logger.warning("no row will be UNFAMILIAR: the checkpoint has no statistics of its training galaxies")
    if views > 1 and checkpoint.max_instability is None and config.review.max_instability is None:
        logger.warning("no row will be UNSTABLE: neither the checkpoint nor review.max_instability gives a limit")
    if views == 1:
        if config.review.max_instability is not None:
            remedy = "the checkpoint uses one view; set classify.stability_views to use more, or leave this out"
            raise InputError("review.max_instability", config.review.max_instability, remedy)
        logger.info("no row will be UNSTABLE: one view per cutout, see classify.stability_views")


def _check_embedding(config: CatalogConfig, checkpoint: Checkpoint) -> None:
    """Refuse an embedding that this checkpoint cannot compute."""
    wanted, known = config.classify.embedding, checkpoint.spec.embedding_size
    if wanted > known:
        remedy = f"the checkpoint has {known} components: use at most as many" if known else (
            "the checkpoint has no components for embeddings; train it again, or leave this out"
        )  # fmt: skip
        raise InputError("classify.embedding", wanted, remedy)


def _verified_previous(plan: ReleasePlan) -> PreviousCatalog:
    """The catalog of `reuse_from`: verified here, unless a run that this one resumes has read it already."""
    previous = open_previous(plan.config, plan.checkpoint.checkpoint_id, plan.manifest.id_type)
    gathered = read_predictions(plan.layout.previous_predictions)
    if gathered is None or gathered.content_id != previous.content_id:
        verify_previous(previous, versions())
    return previous


def _settings(config: CatalogConfig) -> dict[str, Any]:
    """The settings that change a value in the catalog.

    `reuse_from` is not one of them: reused predictions are those that would be computed, so that a run may be resumed
    with or without it.
    """
    without_positions = {"positions": False} if config.manifest.ra_column is None else {}
    return {**_older_settings(config), **without_positions}


def _older_settings(config: CatalogConfig) -> dict[str, Any]:
    """The settings in the fingerprint of versions that set NO_POSITION also in surveys without positions."""
    return {
        "classify": fingerprint_settings(dataclasses.asdict(config.classify)),
        "review": dataclasses.asdict(config.review),
    }


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_secrets(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_without_secrets, value))
    return without_secrets(value) if isinstance(value, str) else value


@contextlib.contextmanager
def _store_errors(field: str, uri: str, action: str) -> Iterator[None]:
    """Turn a store's refusal to read or list into an `InputError`."""
    try:
        yield
    except (OSError, NotImplementedError) as error:
        raise InputError(field, uri, f"cannot be {action}: {error}") from None
