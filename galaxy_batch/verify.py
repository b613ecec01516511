"""A catalog checked against its promises, from its files alone."""

import hashlib
import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from galaxy_batch.catalog import MANIFEST, read_manifest
from galaxy_batch.errors import InputError
from galaxy_batch.rows import ReviewFlag, Status, probability_columns
from galaxy_batch.storage import filesystem, join, read_bytes

__all__ = ["verify_catalog"]


def verify_catalog(catalog_uri: str) -> list[str]:
    """What is wrong with a published catalog: one sentence per problem, naming the file; empty when all is well.

    Checks checksums, counts, schema, unique ids, probabilities, class = most probable, flags against
    columns, and that no file is there that the manifest does not list.
    """
    try:
        manifest = read_manifest(catalog_uri)
    except InputError as error:
        return [str(error)]
    if manifest is None:
        return [f"no {MANIFEST}: nothing is published at {catalog_uri}"]
    problems: list[str] = []
    ids: list[pa.Array] = []
    totals = {"rows": 0, "failed": 0, "flagged": 0}
    for entry in manifest["files"]:
        table = _checked_file(catalog_uri, entry, problems)
        if table is None:
            continue
        found = [f"{entry['path']}: {problem}" for problem in _row_problems(table, manifest)]
        problems += found
        if not any("schema" in problem for problem in found):
            ids += table["object_id"].chunks
            totals["rows"] += len(table)
            totals["failed"] += table["predicted_class"].null_count
            totals["flagged"] += pc.sum(table["needs_review"]).as_py() or 0
    problems += [
        f"{MANIFEST}: {name} is {manifest.get(name)}, the files have {count}"
        for name, count in totals.items()
        if manifest.get(name) != count
    ]
    if manifest.get("manifest_rows") != manifest.get("rows"):
        problems.append(
            f"{MANIFEST}: {manifest.get('manifest_rows')} rows in the survey's manifest, {manifest.get('rows')} here"
        )
    problems += _doubled(ids)
    problems += _strays(catalog_uri, manifest)
    return problems


def _checked_file(catalog_uri: str, entry: Mapping[str, Any], problems: list[str]) -> pa.Table | None:
    path = entry["path"]
    try:
        content = read_bytes(join(catalog_uri, path))
    except FileNotFoundError:
        problems.append(f"{path}: is missing")
        return None
    if len(content) != entry["bytes"]:
        problems.append(f"{path}: has {len(content)} bytes, not {entry['bytes']}")
    elif hashlib.sha256(content).hexdigest() != entry["sha256"]:
        problems.append(f"{path}: its content has changed (sha256)")
    try:
        table = pq.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError) as error:
        problems.append(f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}")
        return None
    if len(table) != entry["rows"]:
        problems.append(f"{path}: has {len(table)} rows, not {entry['rows']}")
    return table


def _row_problems(table: pa.Table, manifest: Mapping[str, Any]) -> Iterator[str]:
    schema = {field.name: str(field.type) for field in table.schema}
    if schema != manifest["schema"] or list(schema) != list(manifest["schema"]):
        yield f"the schema differs from {MANIFEST}'s"
        return
    classes = manifest["classes"]
    probabilities = np.stack([table[name].to_numpy() for name in probability_columns(classes)], axis=1)
    seen = ~np.isnan(probabilities).any(axis=1)
    label = np.array([classes.index(v) if v in classes else -1 for v in table["predicted_class"].to_pylist()])
    confidence = table["confidence"].to_numpy()
    flags = table["review_flags"].to_numpy()
    ok = np.array([status == Status.OK for status in table["status"].to_pylist()])
    best = np.where(seen, np.nan_to_num(probabilities).argmax(axis=1), -1)
    with np.errstate(invalid="ignore"):
        rules = {
            "probabilities outside 0…1": seen & ((probabilities < 0) | (probabilities > 1)).any(axis=1),
            "probabilities that do not sum to 1": seen & (np.abs(probabilities.sum(axis=1) - 1) > 1e-4),
            "a class that is not the most probable one": label != best,
            "a confidence that is not the probability of the class": seen & (confidence != probabilities.max(axis=1)),
            "a class without status ok, or the reverse": seen != ok,
            "an error text with status ok, or none without": table["error"].is_null().to_numpy() != ok,
            "UNREADABLE at odds with status": ((flags & ReviewFlag.UNREADABLE) != 0) == ok,
            "NO_POSITION at odds with ra": ((flags & ReviewFlag.NO_POSITION) != 0) != table["ra"].is_null().to_numpy(),
            "needs_review at odds with review_flags": table["needs_review"].to_numpy() != (flags != 0),
            "LOW_CONFIDENCE at odds with confidence": seen
            & (
                ((flags & ReviewFlag.LOW_CONFIDENCE) != 0)
                != (confidence.astype(np.float64) < manifest["min_confidence"])
            ),
        }
    for rule, broken in rules.items():
        if broken.any():
            first = table["object_id"][int(broken.argmax())]
            yield f"{int(broken.sum())} rows with {rule} (the first: object_id {first})"
    for name in ("release", "model_id"):
        if set(pc.unique(table[name]).to_pylist()) != {manifest[name]}:
            yield f"{name} is not {manifest[name]} in every row"


def _doubled(ids: list[pa.Array]) -> list[str]:
    if not ids:
        return []
    counts = pc.value_counts(pa.chunked_array(ids))
    doubled = [str(e["values"]) for e in counts.filter(pc.greater(counts.field("counts"), 1)).to_pylist()]
    return [f"{len(doubled)} ids stand in more than one row: {', '.join(doubled[:5])}"] if doubled else []


def _strays(catalog_uri: str, manifest: Mapping[str, Any]) -> list[str]:
    fs, root = filesystem(catalog_uri)
    fs.invalidate_cache()
    known = {MANIFEST, *(entry["path"] for entry in manifest["files"])}
    present = {path[len(root.rstrip("/")) + 1 :] for path in fs.find(root)}
    return [f"{path}: is not part of the catalog" for path in sorted(present - known)]
