"""An earlier catalog, and whether its answers are the ones that this run would compute.

An answer is what the model says of one cutout: the probabilities, and whether the cutout is blank. It follows from the
encoded bytes, the checkpoint, and the settings named by `answer_settings`. Where all three are the same, so is the
answer, and it need not be computed again. The bytes must still be fetched: nothing else tells whether they changed.
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
from galaxy_batch.config import CatalogConfig
from galaxy_batch.errors import InputError

__all__ = ["PreviousCatalog", "answer_settings", "open_previous", "verify_earlier"]

logger = logging.getLogger(__name__)

_FIELD = "reuse_from"
_LEAVE_OUT = "choose another catalog, or leave reuse_from out to compute every row"
_COMPUTES = ("galaxy-batch", "torch", "timm", "pillow")


@dataclasses.dataclass(frozen=True)
class PreviousCatalog:
    """A published catalog whose answers may be taken over."""

    catalog_uri: str
    content_id: str
    """Hash of its `manifest.json`, which has the checksum of every file."""
    rows: int
    files: tuple[RowFile, ...]
    classes: tuple[str, ...]
    versions: Mapping[str, str]
    """Of the packages that made it."""


def open_previous(config: CatalogConfig, model_id: str, id_type: pa.DataType) -> PreviousCatalog:
    """Read the `manifest.json` of `reuse_from`, and see that its answers are the ones that this run would compute.

    Nothing else of the catalog is read: it may still not verify.

    Args:
        config: of this run, with its precision decided.
        model_id: content id of this run's checkpoint.
        id_type: of this run's manifest.

    Raises:
        InputError: there is no such catalog, or none of its answers could be taken over.
    """
    uri = config.reuse_from or ""
    manifest = _manifest_of(uri)
    if manifest.model_id != model_id:
        remedy = f"was made with model {manifest.model_id}, checkpoint_uri is {model_id}: no answer is the same"
        raise InputError(_FIELD, uri, f"{remedy}; {_LEAVE_OUT}")
    there, here = _plain(manifest.config), _plain(dataclasses.asdict(config))
    differing = [
        f"{name} = {there.get(name)} there, {value} here" for name, value in here.items() if there.get(name) != value
    ]
    if differing:
        remedy = f"was made with other settings, and its answers are not this run's ({'; '.join(differing)})"
        raise InputError(_FIELD, uri, f"{remedy}; take its settings, or leave reuse_from out to compute every row")
    ids = manifest.schema.get("object_id")
    if ids != str(id_type):
        remedy = f"has ids of type {ids}, the manifest has {id_type}: none match; {_LEAVE_OUT}"
        raise InputError(_FIELD, uri, remedy)
    content = json.dumps(manifest.as_json(), sort_keys=True).encode()
    return PreviousCatalog(
        catalog_uri=uri,
        content_id=hashlib.sha256(content).hexdigest()[:16],
        rows=manifest.rows,
        files=manifest.files,
        classes=manifest.classes,
        versions=manifest.versions,
    )


def verify_earlier(earlier: PreviousCatalog, versions: Mapping[str, str]) -> None:
    """See that every promise of the catalog holds: all of it is read. Warns of other versions of what computes answers.

    Raises:
        InputError: it does not verify.
    """
    problems = verify_catalog(earlier.catalog_uri)
    if problems:
        remedy = f"does not verify, so nothing is taken from it: {'; '.join(problems[:5])}; {_LEAVE_OUT}"
        raise InputError(_FIELD, earlier.catalog_uri, remedy)
    other = [
        f"{name} {earlier.versions.get(name)}" for name in _COMPUTES if earlier.versions.get(name) != versions[name]
    ]
    if other:
        logger.warning("%s was made with %s: answers of today may differ by rounding", _FIELD, ", ".join(other))


def answer_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that an answer depends on, by name: all of `classify` but the size of a chunk, and BLANK's limit.

    A catalog keeps the flag BLANK, not the share of the pixels, so the limit must be the same. All other flags are made
    anew. A setting of `classify` that is added one day is among these by itself.

    Args:
        config: a `CatalogConfig` as nested mappings, or what a `manifest.json` says it was.
    """
    found = _flat({"classify": config.get("classify") or {}})
    found.pop("classify.chunk_rows", None)
    return {**found, "review.max_blank_fraction": (config.get("review") or {}).get("max_blank_fraction")}


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as JSON keeps them, with lists for tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(answer_settings(config)))
    return plain


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _manifest_of(uri: str) -> CatalogManifest:
    try:
        return require_manifest(uri, _FIELD)
    except OSError as error:
        raise InputError(_FIELD, uri, f"cannot be read: {error}") from None
