"""A previous catalog, and whether its predictions are the ones that this run would compute.

What a catalog keeps of a cutout are its predictions (probabilities, unfamiliarity, instability), its embedding where it
has any, and the flags measured on its pixels. They follow from the encoded bytes, the checkpoint and the settings named
by `prediction_settings`: where all three are the same they need not be computed again. The bytes are fetched anyway, to
tell whether they changed. A run without embeddings reuses any catalog; one with embeddings needs as many in the other.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from galaxy_batch.catalog.files import RowFile
from galaxy_batch.catalog.manifest import CatalogManifest, require_manifest
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.config import CatalogConfig, fingerprint_settings
from galaxy_batch.errors import InputError
from galaxy_batch.review.flags import pixel_flags
from galaxy_batch.rows import prediction_columns

__all__ = ["PreviousCatalog", "open_previous", "prediction_settings", "verify_previous"]

logger = logging.getLogger(__name__)

_FIELD = "reuse_from"
_REMEDY = "choose another catalog, or leave reuse_from out to compute every row"
_PACKAGES = ("galaxy-batch", "torch", "timm", "pillow")  # another version may change predictions


@dataclasses.dataclass(frozen=True)
class PreviousCatalog:
    """A published catalog whose predictions may be reused."""

    catalog_uri: str
    content_id: str
    """Hash of its `manifest.json`, which has the checksum of every file."""
    rows: int
    files: tuple[RowFile, ...]
    predictions: tuple[str, ...]
    """Columns that the model computed."""
    versions: Mapping[str, str]
    """Of the packages that made it."""
    embeddings: Mapping[str, RowFile] = dataclasses.field(default_factory=dict)
    """The file of embeddings of each file, by the path of that file; none where this run wants none."""


def open_previous(config: CatalogConfig, model_id: str, id_type: pa.DataType) -> PreviousCatalog:
    """Read the `manifest.json` of `reuse_from`, and check that its predictions are the ones this run would compute.

    Reads nothing else of the catalog, and does not verify it.

    Args:
        config: config of this run, with its precision decided.
        model_id: content id of this run's checkpoint.
        id_type: type of the ids in this run's manifest.

    Raises:
        InputError: there is no such catalog, or none of its predictions can be reused.
    """
    uri = config.reuse_from or ""
    manifest = _read_manifest(uri)
    if manifest.model_id != model_id:
        problem = f"was made with model {manifest.model_id}, but checkpoint_uri is {model_id}"
        raise InputError(_FIELD, uri, f"{problem}: no prediction can be reused; {_REMEDY}")
    previous, current = _as_json(manifest.config), _as_json(dataclasses.asdict(config))
    differing = [
        f"{name} = {previous.get(name)} there, {value} here"
        for name, value in current.items()
        if previous.get(name) != value
    ]
    if differing:
        problem = f"was made with other settings ({'; '.join(differing)})"
        raise InputError(_FIELD, uri, f"{problem}; use its settings, or leave reuse_from out to compute every row")
    previous_type = manifest.schema.get("object_id")
    if previous_type != str(id_type):
        raise InputError(_FIELD, uri, f"has ids of type {previous_type}, but the manifest has {id_type}; {_REMEDY}")
    content = json.dumps(manifest.as_json(), sort_keys=True).encode()
    return PreviousCatalog(
        catalog_uri=uri,
        content_id=hashlib.sha256(content).hexdigest()[:16],
        rows=manifest.rows,
        files=manifest.files,
        predictions=tuple(prediction_columns(manifest.classes, manifest.questions, manifest.concentrations)),
        versions=manifest.versions,
        embeddings=manifest.embeddings if config.classify.embedding else {},
    )


def verify_previous(previous: PreviousCatalog, versions: Mapping[str, str]) -> None:
    """Verify the whole catalog; warn where packages that compute predictions had other versions.

    Raises:
        InputError: it does not verify.
    """
    problems = verify_catalog(previous.catalog_uri)
    if problems:
        remedy = f"does not verify, so nothing is reused: {'; '.join(problems[:5])}; {_REMEDY}"
        raise InputError(_FIELD, previous.catalog_uri, remedy)
    other = [
        f"{name} {previous.versions.get(name)}" for name in _PACKAGES if previous.versions.get(name) != versions[name]
    ]
    if other:
        logger.warning(
            "%s was made with %s: its predictions may differ by rounding from those of this run",
            _FIELD, ", ".join(other),
        )  # fmt: skip


def prediction_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that predictions depend on, by name: `classify` without `chunk_rows`, and limits of pixel flags.

    A catalog keeps a flag measured on pixels and not the measurement, so its limit must be the same. The other flags
    are set again from columns.

    Args:
        config: a `CatalogConfig` as nested mappings, or the config in a `manifest.json`.
    """
    classify = _flatten({"classify": fingerprint_settings(config.get("classify") or {})})
    classify.pop("classify.chunk_rows", None)
    review = config.get("review") or {}
    return classify | {f"review.{name}": review.get(name) for flag in pixel_flags() for name in flag.condition.settings}


def _as_json(config: Mapping[str, Any]) -> dict[str, Any]:
    """The prediction settings with the types of JSON: lists for tuples."""
    settings: dict[str, Any] = json.loads(json.dumps(prediction_settings(config)))
    return settings


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _read_manifest(uri: str) -> CatalogManifest:
    try:
        return require_manifest(uri, _FIELD)
    except OSError as error:
        raise InputError(_FIELD, uri, f"cannot be read: {error}") from None
