"""The catalogs of a folder of releases as a series: the numbers of each, and what changed from one to the next.

Each catalog but the first is compared with the one before it: of the same model if there is one, else of the same
release, else the newest. Memory is that of one comparison, see `compare`.
"""

import dataclasses
import json
import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from galaxy_batch.catalog.layout import Layout
from galaxy_batch.catalog.manifest import MANIFEST, CatalogManifest, read_manifest
from galaxy_batch.catalog.read_files import DamagedCatalogError, files_in_turn, read_file
from galaxy_batch.compare.compare import compare_catalogs
from galaxy_batch.compare.config import CompareConfig
from galaxy_batch.compare.series_result import QUANTILES, CatalogNumbers, NotCompared, Series, Skipped, Step
from galaxy_batch.errors import InputError, without_secrets
from galaxy_batch.stats import share, wilson_interval
from galaxy_batch.storage.files import check_outside, join, list_folders, list_names, read_bytes

__all__ = ["measure_series"]

logger = logging.getLogger(__name__)

_Readable = tuple[str, CatalogManifest, dict[str, float]]
"""A catalog's URI, its manifest, and its confidence as in `CatalogNumbers`."""


def measure_series(config: CompareConfig) -> Series:
    """Read all catalogs of a folder of releases, and compare each with the one before it.

    Raises:
        InputError: no catalog is published there, two cannot be compared as configured, or the output would be inside
            of one.
    """
    uri = config.series_uri or ""
    published, skipped = _published(uri)
    readable: list[_Readable] = []
    for catalog_uri, manifest in published:
        check_outside("output_uri", config.output_uri, catalog_uri)
        try:
            readable.append((catalog_uri, manifest, _confidence(catalog_uri, manifest)))
        except DamagedCatalogError as error:
            skipped.append(_skip(catalog_uri, manifest.release, manifest.model_id, error.remedy, manifest.created))
    while readable:
        try:
            return _series(config, readable, skipped)
        except DamagedCatalogError as error:  # in other columns: its neighbours are compared with each other
            damaged = next(entry for entry in readable if without_secrets(entry[0]) == error.value)
            readable.remove(damaged)
            manifest = damaged[1]
            skipped.append(_skip(damaged[0], manifest.release, manifest.model_id, error.remedy, manifest.created))
    remedy = "no catalog is published there: the folder must hold release=…/model=…/catalog/manifest.json"
    raise InputError("series_uri", uri, remedy)


def _series(config: CompareConfig, readable: Sequence[_Readable], skipped: Sequence[Skipped]) -> Series:
    """Compare the catalogs in their order. Raises DamagedCatalogError, with the URI of a catalog."""
    releases = _releases([manifest for _, manifest, _ in readable], config.order)
    ordered = sorted(
        readable, key=lambda entry: (releases.index(entry[1].release), entry[1].created, entry[1].model_id)
    )
    catalogs = tuple(_numbers(*entry) for entry in ordered)
    uris = [catalog_uri for catalog_uri, _, _ in ordered]
    steps, not_compared = _steps(uris, catalogs, config)
    return Series(
        series_uri=without_secrets(config.series_uri or ""),
        order=config.order,
        releases=releases,
        models=tuple(dict.fromkeys(catalog.model_id for catalog in catalogs)),
        catalogs=catalogs,
        steps=steps,
        skipped=tuple(sorted(skipped, key=lambda one: one.uri)),
        not_compared=not_compared,
    )


def _published(uri: str) -> tuple[list[tuple[str, CatalogManifest]], list[Skipped]]:
    """The catalogs of a folder with their manifests, and what is there without one."""
    published: list[tuple[str, CatalogManifest]] = []
    skipped: list[Skipped] = []
    for release, model_id in _folders(uri):
        layout = Layout(uri, release, model_id, "")
        try:
            manifest = read_manifest(layout.catalog, "series_uri")
        except InputError as error:
            skipped.append(_skip(layout.catalog, release, model_id, error.remedy))
            continue
        if manifest is None:
            skipped.append(_skip(layout.catalog, release, model_id, _why_unpublished(layout)))
        else:
            published.append((layout.catalog, manifest))
    return published, skipped


def _folders(uri: str) -> Iterator[tuple[str, str]]:
    """Release and model of each folder `release=…/model=…`."""
    try:
        for folder in list_folders(uri):
            key, _, release = folder.partition("=")
            for below in list_folders(join(uri, folder)) if key == "release" else []:
                if below.startswith("model="):
                    yield release, below.removeprefix("model=")
    except PermissionError as error:
        raise InputError("series_uri", uri, f"cannot be read: {error}") from None


def _why_unpublished(layout: Layout) -> str:
    """What the record of the last run says of a catalog without a manifest."""
    names = [name for name in list_names(join(layout.root, "runs")) if name.endswith(".json")]
    try:
        state = json.loads(read_bytes(join(layout.root, "runs", names[-1]))).get("state") if names else None
    except (OSError, ValueError, AttributeError):
        state = None
    last = f"; its last run: {state}" if state else ""
    return f"not published, or withdrawn: no {MANIFEST}{last}"


def _skip(catalog_uri: str, release: str, model_id: str, reason: str, created: str = "") -> Skipped:
    logger.warning("skipped: %s: %s", without_secrets(catalog_uri), reason)
    return Skipped(without_secrets(catalog_uri), release, model_id, reason, created)


def _releases(manifests: Sequence[CatalogManifest], order: str) -> tuple[str, ...]:
    """Names of the releases, by the time their first catalog was published, or by name, numbers by their value."""
    created = {manifest.release: manifest.created for manifest in sorted(manifests, key=lambda m: m.created)[::-1]}
    by_time = {name: (time if order == "published" else "", _natural(name)) for name, time in created.items()}
    return tuple(sorted(by_time, key=by_time.__getitem__))


def _natural(name: str) -> tuple[tuple[int, int | str], ...]:
    """A key by which `dr9` is before `dr10`."""
    return tuple((0, int(piece)) if piece.isdigit() else (1, piece) for piece in re.findall(r"\d+|\D+", name))


def _pairs(catalogs: Sequence[CatalogNumbers]) -> Iterator[tuple[int, int]]:
    """Each catalog but the first, with the one that it is compared with."""
    for new in range(1, len(catalogs)):
        before = range(new - 1, -1, -1)
        same_model = (old for old in before if catalogs[old].model_id == catalogs[new].model_id)
        same_release = (old for old in before if catalogs[old].release == catalogs[new].release)
        yield next(same_model, next(same_release, new - 1)), new


def _confidence(catalog_uri: str, manifest: CatalogManifest) -> dict[str, float]:
    """Mean and quantiles of the confidence; 4 bytes a row in memory."""

    def read(_: int, file: Any) -> npt.NDArray[np.float32]:
        table: pa.Table = read_file(
            catalog_uri, file.path, lambda parquet: parquet.read(columns=["confidence"]), "series_uri"
        )
        return np.asarray(table["confidence"].drop_null().cast(pa.float32()).to_numpy(), np.float32)

    values = np.concatenate([np.zeros(0, np.float32), *files_in_turn(manifest.files, "reading confidence", read)])
    if not len(values):
        return dict.fromkeys(("mean", *QUANTILES), float("nan"))
    quantiles = np.quantile(values, list(QUANTILES.values())).tolist()
    return {"mean": float(values.mean(dtype=np.float64)), **dict(zip(QUANTILES, quantiles, strict=True))}


def _numbers(catalog_uri: str, manifest: CatalogManifest, confidence: dict[str, float]) -> CatalogNumbers:
    with_class = manifest.rows - manifest.failed
    return CatalogNumbers(
        catalog_uri=without_secrets(catalog_uri),
        release=manifest.release,
        model_id=manifest.model_id,
        created=manifest.created,
        rows=manifest.rows,
        failed=manifest.failed,
        failed_share=share(manifest.failed, manifest.rows),
        failed_interval=wilson_interval(manifest.failed, manifest.rows),
        flagged=manifest.flagged,
        flagged_share=share(manifest.flagged, manifest.rows),
        flagged_interval=wilson_interval(manifest.flagged, manifest.rows),
        without_position=manifest.without_position,
        status_counts=manifest.status_counts,
        class_counts=manifest.class_counts,
        class_shares={name: share(manifest.class_counts.get(name, 0), with_class) for name in manifest.classes},
        flag_counts=manifest.flag_counts,
        confidence=confidence,
    )


def _steps(
    uris: Sequence[str], catalogs: Sequence[CatalogNumbers], config: CompareConfig
) -> tuple[tuple[Step, ...], tuple[NotCompared, ...]]:
    """Compare each pair; raises InputError where none can be compared, which is then a fault of the config."""
    steps: list[Step] = []
    not_compared: list[NotCompared] = []
    problem: InputError | None = None
    for old, new in _pairs(catalogs):
        try:
            steps.append(_step(old, new, uris, catalogs, config))
        except DamagedCatalogError:
            raise
        except InputError as error:
            before, after = catalogs[old], catalogs[new]
            reason = f"{error.remedy} ({after.release}, {after.model_id} against {before.release}, {before.model_id})"
            problem = problem or InputError(error.field, error.value, reason)
            logger.warning("not compared: %s", reason)
            not_compared.append(NotCompared(old, new, reason))
    if problem is not None and not steps:
        raise problem
    return tuple(steps), tuple(not_compared)


def _step(old: int, new: int, uris: Sequence[str], catalogs: Sequence[CatalogNumbers], config: CompareConfig) -> Step:
    before, after = catalogs[old], catalogs[new]
    logger.info("%s, %s compared with %s, %s", after.release, after.model_id, before.release, before.model_id)
    pair = dataclasses.replace(config, series_uri=None, old_uri=uris[old], new_uri=uris[new], examples=0)
    result = compare_catalogs(pair)
    names = {"release": before.release != after.release, "model": before.model_id != after.model_id}
    return Step(
        old=old,
        new=new,
        changed=" and ".join(name for name, differs in names.items() if differs),
        matched=result.matching.matched,
        only_old=result.matching.only_old,
        only_new=result.matching.only_new,
        compared=result.compared,
        flipped=result.flipped,
        flip_rate=result.flip_rate,
        flip_interval=result.flip_interval,
        psi={name: shift.psi for name, shift in result.shifts.items()},
        ks={name: shift.ks for name, shift in result.shifts.items()},
        mean_change={name: shift.mean_change for name, shift in result.shifts.items()},
        class_share_change=dict(zip(result.classes, result.mix.difference[0].tolist(), strict=True)),
        failed_rate_increase=result.failed.increase,
        flagged_rate_increase=result.flagged.increase,
        gates_crossed=tuple(gate.name for gate in result.crossed),
    )
