"""A catalog is shared: verified, described, copied, and verified again where it went.

::

    checkpoint, target ─> verify_catalog ─> audits ─> documents ─> share.json ─> files ─> manifest.json

`share.json` is the first file at the target, and says which catalog is shared there; `catalog/manifest.json` is the
last, and makes the files a catalog. The files at the target are the whole state of an interrupted run: those of the
right size and checksum are not copied again.
"""

import dataclasses
import json
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import metadata
from typing import Any

from galaxy_batch.catalog.manifest import CatalogManifest, manifest_content, require_manifest
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.checkpoints import model_card_of
from galaxy_batch.errors import GateError, InputError, without_secrets
from galaxy_batch.model.checkpoint import CheckpointFile, read_checkpoint
from galaxy_batch.runtime.progress import with_progress
from galaxy_batch.sharing.citation import CITATION, ZENODO, citation_cff, zenodo_json
from galaxy_batch.sharing.config import HUB, ShareConfig
from galaxy_batch.sharing.croissant import CROISSANT, croissant
from galaxy_batch.sharing.dataset_card import CARD, dataset_card
from galaxy_batch.sharing.description import CHECKPOINT, SharedCatalog, read_audits, read_columns, read_position
from galaxy_batch.sharing.files import SharedFile, catalog_files, collection_files, manifest_file, written_file
from galaxy_batch.sharing.hub import HubTarget
from galaxy_batch.sharing.model_card import MODEL_CARD, model_card
from galaxy_batch.sharing.secrets import first_image_uri, secrets_in_rows, secrets_in_text
from galaxy_batch.sharing.target import FolderTarget, Target
from galaxy_batch.storage.files import check_outside

__all__ = ["share_catalog"]

logger = logging.getLogger(__name__)

_RECORD = "share.json"
_PERSONAL = ("title", "description", "authors", "license")


def share_catalog(config: ShareConfig) -> dict[str, Any]:
    """Share a catalog; the same call again continues, or does nothing.

    Returns:
        `catalog_uri`, `shared_uri`, `rows`, `files`, `bytes`, files that were `copied` and that were `unchanged`,
        `not_given`, the settings that only people know and that are left out, `url` and `seconds`.

    Raises:
        InputError: no catalog is published there, its checkpoint cannot be had, credentials are in it, or the target
            holds something else.
        GateError: the catalog does not verify, it changes meanwhile, or the target does not have what was written.
    """
    started = time.monotonic()
    content = manifest_content(config.catalog_uri) or b""  # before it is parsed: whatever comes later is a change
    manifest = require_manifest(config.catalog_uri)
    check_outside("to_uri", config.to_uri, config.catalog_uri)  # also through symbolic links, unlike the config
    _check_text("catalog_uri", config.catalog_uri, "its manifest.json", content.decode())
    checkpoint = _checkpoint(config, manifest) if config.with_checkpoint else None
    target = _target(config)
    record = _record(manifest, manifest_file(content))
    _require_ours(target, record, config.to_uri)
    target.prepare()  # before the catalog is verified, which may take hours
    _require_verified(config.catalog_uri)
    _require_no_secrets_in_rows(config.catalog_uri, manifest)
    files, catalog = _described(config, manifest, content, checkpoint)
    _warn_of_local_images(config.catalog_uri, manifest)
    logger.info("sharing %d files, %.1f MB, to %s", len(files), catalog.size / 1e6, without_secrets(config.to_uri))
    copied = _copy(target, [record])
    copied += _copy(target, files)
    if manifest_content(config.catalog_uri) != content:
        raise _problem(f"{without_secrets(config.catalog_uri)} was published again meanwhile: share it again elsewhere")
    copied += _copy(target, [manifest_file(content)])
    _warn_of_others(target, [record, *files, manifest_file(content)])
    not_given = [name for name in _PERSONAL if not getattr(config.share, name)]
    if not_given:
        logger.warning("only people know these, and they are not written: share.%s", ", share.".join(not_given))
    return {
        "catalog_uri": without_secrets(config.catalog_uri),
        "shared_uri": without_secrets(config.to_uri),
        "rows": manifest.rows,
        "files": len(files) + 2,
        "bytes": catalog.size,
        "copied": copied,
        "unchanged": len(files) + 2 - copied,
        "not_given": not_given,
        "url": catalog.url,
        "seconds": round(time.monotonic() - started, 3),
    }


def _target(config: ShareConfig) -> Target:
    if config.to_uri.startswith(HUB):
        return HubTarget(config.to_uri, config.private)
    return FolderTarget(config.to_uri)


def _record(manifest: CatalogManifest, file: SharedFile) -> SharedFile:
    """`share.json`, which names one catalog."""
    entries = {
        "format": 1,
        "release": manifest.release,
        "model_id": manifest.model_id,
        "run_id": manifest.run_id,
        "manifest_sha256": file.sha256,
    }
    return written_file(_RECORD, (json.dumps(entries, indent=2) + "\n").encode())


def _require_ours(target: Target, record: SharedFile, uri: str) -> None:
    """The target is empty, or this catalog was shared there; raises InputError otherwise."""
    try:
        there = target.read(_RECORD)
    except PermissionError as error:
        raise InputError("to_uri", uri, f"cannot be read: {error}") from None
    if there == record.written:
        return
    if there is not None:
        try:
            entries = json.loads(there)
            name = f"release {entries['release']}, model {entries['model_id']}, run {entries['run_id']}"
        except (ValueError, KeyError, TypeError):
            name = "what it is cannot be read"
        raise InputError("to_uri", uri, f"another catalog is shared there ({name}): choose another, or remove that one")
    others = sorted(name or "it is a file" for name in target.names() - target.ours)
    if others:
        raise InputError("to_uri", uri, f"is not empty ({', '.join(others[:3])}): choose a new or empty one")


def _require_verified(catalog_uri: str) -> None:
    problems = verify_catalog(catalog_uri)
    if problems:
        raise GateError(
            f"{without_secrets(catalog_uri)} does not verify and is not shared: {'; '.join(problems[:5])}",
            {"catalog_uri": without_secrets(catalog_uri), "problems": problems},
        )


def _require_no_secrets_in_rows(catalog_uri: str, manifest: CatalogManifest) -> None:
    columns = secrets_in_rows(catalog_uri, manifest)
    if columns:
        remedy = f"credentials are in addresses of its column {', '.join(columns)}: make it without (keep_columns)"
        raise InputError("catalog_uri", catalog_uri, remedy)


def _check_text(setting: str, value: str, name: str, text: str) -> None:
    uris = secrets_in_text(text)
    if uris:
        raise InputError(setting, value, f"credentials are in {name}, in {', '.join(uris[:3])}")


def _warn_of_local_images(catalog_uri: str, manifest: CatalogManifest) -> None:
    """`image_uri` of a survey on a local disk says nothing to others, and shows where files are on this machine."""
    place = first_image_uri(catalog_uri, manifest)
    if place is not None and ("://" not in place or place.startswith("file://")):
        logger.warning("its column image_uri has places on this machine, such as %s", place)


def _described(
    config: ShareConfig, manifest: CatalogManifest, content: bytes, checkpoint: CheckpointFile | None
) -> tuple[list[SharedFile], SharedCatalog]:
    """All files but the first and the last, and what the documents say."""
    data = [*catalog_files(config.catalog_uri, manifest), *collection_files(config.catalog_uri, manifest)]
    about = config.share
    card = model_card_of(manifest.model_id)
    if checkpoint is not None:
        data.append(written_file(CHECKPOINT, checkpoint.content))
    if card and about.checkpoint_license is None:
        about = dataclasses.replace(about, checkpoint_license=metadata("galaxy-batch")["License-Expression"])
    catalog = SharedCatalog(
        manifest=manifest,
        columns=read_columns(config.catalog_uri),
        about=about,
        audits=read_audits(config.catalog_uri, manifest),
        target_uri=config.to_uri,
        position=read_position(config.catalog_uri, manifest),
        files=tuple(file.path for file in data),
        size=sum(file.size for file in data) + len(content),
        checkpoint=dataclasses.asdict(checkpoint.checkpoint) if checkpoint else manifest.checkpoint,
        checkpoint_card=card,
    )
    last = manifest_file(content)
    checksums = {file.path: file.sha256 for file in (*data, last) if file.path in (CHECKPOINT, last.path)}
    documents = {
        CARD: dataset_card(catalog),
        MODEL_CARD: model_card(catalog) if checkpoint else None,
        CITATION: citation_cff(catalog),
        ZENODO: zenodo_json(catalog),
        CROISSANT: croissant(catalog, checksums),
    }
    written = [written_file(name, text) for name, text in documents.items() if text is not None]
    for file in written:
        _check_text("share", "[share]", file.path, file.content().decode())
    return [*data, *written], catalog


def _checkpoint(config: ShareConfig, manifest: CatalogManifest) -> CheckpointFile:
    """The checkpoint of the catalog; raises InputError if it is not there or another one."""
    uri = config.checkpoint_uri or str(manifest.config.get("checkpoint_uri", ""))
    remedy = "name its place (checkpoint_uri), or share the catalog without it (with_checkpoint = false)"
    try:
        file = read_checkpoint(uri)
    except InputError as error:
        raise InputError("checkpoint_uri", uri, f"{error.remedy}; {remedy}") from None
    if file.checkpoint.checkpoint_id != manifest.model_id:
        found = file.checkpoint.checkpoint_id
        raise InputError("checkpoint_uri", uri, f"is {found}, not the catalog's {manifest.model_id}; {remedy}")
    _check_text("checkpoint_uri", uri, "its metadata", json.dumps(dataclasses.asdict(file.checkpoint)))
    return file


def _copy(target: Target, files: Sequence[SharedFile]) -> int:
    """Put the files that are not there, and see that they arrive; their number."""
    missing = target.missing(files)
    pool = ThreadPoolExecutor(target.at_once)
    try:
        done = zip(missing, pool.map(target.put, missing), strict=True)
        for _ in with_progress(done, "sharing", sum(file.rows for file in missing), lambda copied: copied[0].rows):
            pass
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupted job does not go on with the files that are waiting
    target.finish()
    return len(missing)


def _warn_of_others(target: Target, files: Sequence[SharedFile]) -> None:
    others = sorted(target.names() - {file.path for file in files} - target.ours)
    if others:
        logger.warning("%d other files are there too: %s", len(others), ", ".join(others[:5]))


def _problem(message: str) -> GateError:
    return GateError(message, {"problems": [message]})
