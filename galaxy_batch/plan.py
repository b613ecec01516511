"""The plan of a run: what goes in, where it goes, what is left to do; all that can be checked before Ray starts."""

import contextlib
import dataclasses
import logging
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pyarrow as pa

from galaxy_batch.catalog.layout import Layout, fingerprint
from galaxy_batch.catalog.manifest import CatalogManifest, read_manifest
from galaxy_batch.catalog.parts import finished_parts
from galaxy_batch.config import CatalogConfig
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.columns import check_kept_names, kept_columns
from galaxy_batch.inputs.manifest import Chunk, Manifest, open_manifest
from galaxy_batch.model.checkpoint import Checkpoint, load_checkpoint
from galaxy_batch.model.engines.engine import Precision
from galaxy_batch.reuse.predictions import read_predictions
from galaxy_batch.reuse.previous import PreviousCatalog, open_previous, verify_previous
from galaxy_batch.review.flags import ReviewLimits
from galaxy_batch.rows import catalog_schema
from galaxy_batch.runtime.workers import Workers
from galaxy_batch.storage.files import check_writable, without_secrets

__all__ = ["ReleasePlan", "plan_release", "versions"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReleasePlan:
    """A checked run: what goes in, where it goes, and what is left to do."""

    config: CatalogConfig
    checkpoint: Checkpoint
    manifest: Manifest
    layout: Layout
    todo: tuple[Chunk, ...]
    """Chunks without a part, or with one whose rows were not all reached."""
    published: CatalogManifest | None
    """The manifest of a catalog that was made from exactly this; then there is nothing to do."""
    previous: PreviousCatalog | None = None
    """The catalog of `reuse_from`; None when none is named, or nothing is to do."""

    @property
    def min_confidence(self) -> float:
        """The review threshold: the config's, else the checkpoint's."""
        chosen = self.config.review.min_confidence
        return self.checkpoint.min_confidence if chosen is None else chosen

    @property
    def limits(self) -> dict[str, Any]:
        """Limits of LOW_CONFIDENCE, UNFAMILIAR and UNSTABLE: the config's own, else the checkpoint's, else None."""
        review, checkpoint = self.config.review, self.checkpoint
        return {
            "min_confidence": self.min_confidence,
            "max_unfamiliarity": _first(review.max_unfamiliarity, checkpoint.max_unfamiliarity),
            "max_instability": _first(review.max_instability, checkpoint.max_instability),
        }

    @property
    def review_limits(self) -> ReviewLimits:
        """What rows are flagged by."""
        review = {**dataclasses.asdict(self.config.review), **self.limits}
        return ReviewLimits(**review, has_positions=self.config.manifest.ra_column is not None)

    @property
    def schema(self) -> pa.Schema:
        """The catalog's schema."""
        return catalog_schema(self.manifest.id_type, self.checkpoint.spec.classes, self.manifest.kept)

    @property
    def shown_config(self) -> dict[str, Any]:
        """The config as it may be written down: locations without credentials."""

        def shown(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: shown(inner) for key, inner in value.items()}
            return without_secrets(value) if isinstance(value, str) else value

        result: dict[str, Any] = shown(dataclasses.asdict(self.config))
        return result

    def model_arguments(self, workers: Workers) -> dict[str, Any]:
        """What the Classifier is made with."""
        return {
            "checkpoint_uri": self.config.checkpoint_uri,
            "config": self.config.classify,
            "batch_size": workers.batch_size,
            "engine": workers.engine,
            "precision": self.config.classify.precision,
            "threads": workers.threads,
        }


def plan_release(config: CatalogConfig) -> ReleasePlan:
    """Check the checkpoint, the manifest and the output, and see what an earlier run has finished. Needs no Ray.

    Raises:
        InputError: something that was given cannot be used.
    """
    checkpoint, model = load_checkpoint(config.checkpoint_uri)
    _check_flags(config, checkpoint, known=model.familiarity is not None)
    with _refused("manifest.uri", config.manifest.uri, "read"):
        manifest = open_manifest(config.manifest, config.classify.chunk_rows)
    check_kept_names(kept_columns(config.manifest), catalog_schema(manifest.id_type, checkpoint.spec.classes).names)
    if config.classify.precision == "auto":
        precision: Precision = "bf16" if checkpoint.bf16_agrees else "fp32"
        config = dataclasses.replace(config, classify=dataclasses.replace(config.classify, precision=precision))
    mark, older_mark = (
        fingerprint(manifest.content_id, checkpoint.checkpoint_id, settings)
        for settings in (_settings(config), _older_settings(config))
    )
    layout = Layout(config.output_uri, config.release, checkpoint.checkpoint_id, mark)
    with _refused("output_uri", config.output_uri, "read"):
        published = read_manifest(layout.catalog, "output_uri")
    if published is not None and published.fingerprint not in (mark, older_mark):
        if not config.overwrite:
            raise InputError(
                "output_uri",
                layout.catalog,
                "a catalog made from another manifest or other settings is published here; set overwrite = true to "
                "replace it, or choose another release name or output_uri",
            )
        published = None
    if published is None:
        check_writable(layout.root, config.output_uri)
    with _refused("output_uri", config.output_uri, "listed"):
        done = finished_parts(layout.parts, config.keep_unreachable)
    todo = tuple(chunk for chunk in manifest.chunks if chunk.index not in done)
    plan = ReleasePlan(config, checkpoint, manifest, layout, todo, published)
    if config.reuse_from is None or published is not None or not todo:
        return plan
    return dataclasses.replace(plan, previous=_verified_previous(plan))


def versions() -> dict[str, str]:
    """Of what computes and writes a catalog, by package."""
    packages = ("galaxy-batch", "ray", "torch", "timm", "pillow", "pyarrow")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _check_flags(config: CatalogConfig, checkpoint: Checkpoint, known: bool) -> None:
    """Say which flags this checkpoint cannot set; a limit for one of them would never be looked at."""
    views = max(checkpoint.spec.views, config.classify.stability_views)
    if not known:
        if config.review.max_unfamiliarity is not None:
            remedy = "the checkpoint has no statistics of its training galaxies; train it anew, or leave this out"
            raise InputError("review.max_unfamiliarity", config.review.max_unfamiliarity, remedy)
        logger.warning("no row will be UNFAMILIAR: the checkpoint has no statistics of its training galaxies")
    if views > 1 and checkpoint.max_instability is None and config.review.max_instability is None:
        logger.warning("no row will be UNSTABLE: neither the checkpoint nor review.max_instability gives a limit")
    if views == 1:
        if config.review.max_instability is not None:
            remedy = "this checkpoint looks at one view; ask for more with classify.stability_views, or leave this out"
            raise InputError("review.max_instability", config.review.max_instability, remedy)
        logger.info("no row will be UNSTABLE: one view is looked at, see classify.stability_views")


def _verified_previous(plan: ReleasePlan) -> PreviousCatalog:
    """The catalog of `reuse_from`: verified here, unless the run that this one resumes has read it."""
    previous = open_previous(plan.config, plan.checkpoint.checkpoint_id, plan.manifest.id_type)
    gathered = read_predictions(plan.layout.previous_predictions)
    if gathered is None or gathered.content_id != previous.content_id:
        verify_previous(previous, versions())
    return previous


def _settings(config: CatalogConfig) -> dict[str, Any]:
    """The settings that change a value.

    `reuse_from` is none of them: what is taken over is what would be computed. So a run may be resumed with it or
    without, and the catalog of both is the same.
    """
    without_positions = {"positions": False} if config.manifest.ra_column is None else {}
    return {**_older_settings(config), **without_positions}


def _older_settings(config: CatalogConfig) -> dict[str, Any]:
    """The settings in the fingerprint of versions that set NO_POSITION also in surveys without positions."""
    return {"classify": dataclasses.asdict(config.classify), "review": dataclasses.asdict(config.review)}


def _first(*limits: float | None) -> float | None:
    return next((limit for limit in limits if limit is not None), None)


@contextlib.contextmanager
def _refused(field: str, uri: str, wanted: str) -> Iterator[None]:
    """Turn a store's refusal to read or list into an `InputError`."""
    try:
        yield
    except (OSError, NotImplementedError) as error:
        raise InputError(field, uri, f"cannot be {wanted}: {error}") from None
