"""The import of verdicts, from files of other tools to the tables beside the catalog.

::

    files ─> records ─> answers ─> objects of the catalog ─> last of each person ─> queue ┬─> verdicts.parquet
                           │                 │                     │                      └─> merge ─> reviewed.parquet
                           └─────────────────┴─────────────────────┴─> rejected.parquet

Every record is either a row of `verdicts.parquet` or one of `rejected.parquet`.
"""

import logging
import shlex
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from galaxy_batch.catalog.manifest import CatalogManifest, require_manifest
from galaxy_batch.errors import InputError
from galaxy_batch.review_queue.queue import UNSURE, NoSuchQueueError, ReviewQueue, queue_of_catalog, verdict_names
from galaxy_batch.reviewed_objects import read_import, reviewed_schema, verdicts_folder
from galaxy_batch.storage.files import check_writable, without_secrets
from galaxy_batch.verdicts.acceptance import Acceptance, accept
from galaxy_batch.verdicts.config import ImportConfig
from galaxy_batch.verdicts.merge import merge_verdicts
from galaxy_batch.verdicts.records import Problem
from galaxy_batch.verdicts.reviewers import Reviewers, read_key
from galaxy_batch.verdicts.table import key_uri, rejected_schema, verdicts_schema, write_tables
from galaxy_batch.verdicts.verdict_files import FileRecords, read_file, rejected_contents
from galaxy_batch.verdicts.words import Words

__all__ = ["import_verdicts"]

logger = logging.getLogger(__name__)

_SHOWN = 3  # records of each problem in the log
_SHOWN_WORDS = 20


def import_verdicts(config: ImportConfig) -> dict[str, Any]:
    """Import the files of a config, and write the tables; returns the job's summary.

    Raises:
        InputError: there is no such catalog, a file cannot be used, no record gives a verdict, other files have been
            imported under this name, or crowd-kit is needed and not installed.
    """
    started = time.monotonic()
    manifest = require_manifest(config.catalog_uri)
    folder = verdicts_folder(config.catalog_uri, config.name)
    _check_replaced(folder, config)
    check_writable(folder)
    words = Words(verdict_names(manifest.classes), config.answers)
    integers = manifest.id_type == pa.int64()
    files = [read_file(uri, config, words, integers) for uri in config.files]
    reviewers = Reviewers(read_key(config.key_uri or key_uri(config.catalog_uri)), config.names)
    acceptance = accept(files, config.catalog_uri, manifest, reviewers)
    _log_rejected(acceptance, files, words)
    if acceptance.answers.empty:
        raise _nothing_accepted(acceptance, config)
    verdicts = _with_queues(acceptance.answers, config, manifest)
    verdicts = verdicts.sort_values(["object_id", "reviewer"], kind="stable")
    reviewed, method = _reviewed(verdicts, config)
    counts = _counts(acceptance, verdicts, reviewed)
    record = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "catalog": {"release": manifest.release, "model_id": manifest.model_id},
        "files": [_file_entry(file) for file in files],
        "merge": method,
        "pseudonyms": not config.names,
        "queues": sorted(verdicts["queue"].dropna().unique()),
        **counts,
    }
    write_tables(
        folder,
        _as_table(verdicts, verdicts_schema(manifest.id_type)),
        _as_table(reviewed, reviewed_schema(manifest.id_type)),
        _rejected_table(acceptance, files, config, words, reviewers),
        record,
    )
    logger.info("%d verdicts on %d objects: %s", len(verdicts), len(reviewed), without_secrets(folder))
    logger.info(
        "to measure the catalog: python -m jobs.audit_catalog %s --verdicts %s",
        *(shlex.quote(without_secrets(uri)) for uri in (config.catalog_uri, folder)),
    )
    logger.info("to train on the verdicts: --set 'verdicts.uris=[\"%s\"]' of jobs.train_model", without_secrets(folder))
    return {
        "catalog_uri": without_secrets(config.catalog_uri),
        "verdicts_uri": without_secrets(folder),
        "merge": method,
        **counts,
        "seconds": round(time.monotonic() - started, 3),
    }


def _check_replaced(folder: str, config: ImportConfig) -> None:
    """Tables are replaced by an import of files with the same names, newer exports for instance, and further ones."""
    previous = read_import(folder, "name")
    if previous is None or config.overwrite:
        return
    given = {without_secrets(uri).rpartition("/")[2] for uri in config.files}
    lost = [entry["uri"] for entry in previous["files"] if entry["uri"].rpartition("/")[2] not in given]
    if lost:
        remedy = f"has the verdicts of {lost[0]}: import all files at once, choose another name, or set overwrite"
        raise InputError("name", config.name, remedy)


def _nothing_accepted(acceptance: Acceptance, config: ImportConfig) -> InputError:
    files = ", ".join(map(without_secrets, config.files))
    if not acceptance.rejected:
        return InputError("files", files, "there is no record of a verdict")
    reasons = Counter((rejected.problem, rejected.reason) for _, rejected in acceptance.rejected)
    (problem, reason), _ = reasons.most_common(1)[0]
    remedy = f"none of {len(acceptance.rejected)} records gives a verdict; most often {problem}: {reason}"
    if problem == Problem.UNKNOWN_VERDICT:
        remedy += "; say in [answers] what the words mean"
    return InputError("files", files, remedy)


def _with_queues(verdicts: pd.DataFrame, config: ImportConfig, manifest: CatalogManifest) -> pd.DataFrame:
    """The verdicts with the inclusion probability and reason that their queue has."""
    named = verdicts["queue"].where(verdicts["queue"] != "", config.queue or "")
    verdicts = verdicts.assign(
        queue=named.where(named != "", None),
        inclusion_probability=float("nan"),
        reason=None,
        release=manifest.release,
        model_id=manifest.model_id,
    )
    names = {config.queue or "", *named} - {""}
    for name in sorted(names):
        queue = _queue(name, config, manifest)
        if queue is None:
            continue
        drawn = queue.rows.select(["object_id", "inclusion_probability", "reason"]).to_pandas().set_index("object_id")
        of_queue = named == name
        ids = verdicts["object_id"][of_queue]
        if not ids.isin(drawn.index).all():
            logger.warning("%d verdicts are on objects that are not in queue %s", (~ids.isin(drawn.index)).sum(), name)
        for column in drawn.columns:
            verdicts.loc[of_queue, column] = ids.map(drawn[column])
    return verdicts


def _queue(name: str, config: ImportConfig, manifest: CatalogManifest) -> ReviewQueue | None:
    """The queue of a name; None, with a warning, where there is none that was drawn from this catalog."""
    try:
        return queue_of_catalog(config.catalog_uri, name, manifest)
    except NoSuchQueueError as error:
        if name == config.queue:
            raise InputError("queue", name, str(error)) from None
        logger.warning("queue %s: %s; its verdicts have no inclusion probability", name[:100], error)
        return None


def _reviewed(verdicts: pd.DataFrame, config: ImportConfig) -> tuple[pd.DataFrame, str | None]:
    """One row an object, ascending by id, and how verdicts were merged."""
    merged, method = merge_verdicts(verdicts[verdicts["verdict"] != UNSURE], config.merge)
    by_object = verdicts.sort_values(["object_id", "time"], na_position="first", kind="stable").groupby("object_id")
    last = ["inclusion_probability", "reason", "release", "model_id"]
    reviewed = (
        by_object[last]
        .last()
        .assign(  # the last one that is known
            verdicts=by_object.size(),
            reviewed_by=by_object["reviewer"].agg(lambda names: ";".join(sorted(names))),
            reviewed_at=by_object["time"].max(),
        )
    )
    return reviewed.join(merged).reset_index(), method


def _counts(acceptance: Acceptance, verdicts: pd.DataFrame, reviewed: pd.DataFrame) -> dict[str, Any]:
    of_class = verdicts[verdicts["verdict"] != UNSURE]
    decided = reviewed["reviewed_class"].notna()
    return {
        "records": len(verdicts) + len(acceptance.rejected),
        "accepted": len(verdicts),
        "rejected": len(acceptance.rejected),
        "problems": acceptance.problems(),
        "reviewers": int(verdicts["reviewer"].nunique()),
        "verdicts": {str(name): int(n) for name, n in verdicts["verdict"].value_counts().sort_index().items()},
        "objects": len(reviewed),
        "disputed": int((of_class.groupby("object_id")["verdict"].nunique() > 1).sum()),
        "decided": int(decided.sum()),
        "undecided": int((~decided).sum()),
        "with_inclusion_probability": int(reviewed["inclusion_probability"].notna().sum()),
    }


def _file_entry(file: FileRecords) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "uri": file.name,
        "format": file.format,
        "sha256": file.sha256,
        "records": len(file.answers) + len(file.rejected),
    }
    return {**entry, "workflows": dict(sorted(file.workflows.items()))} if file.workflows else entry


def _log_rejected(acceptance: Acceptance, files: Sequence[FileRecords], words: Words) -> None:
    """For each problem the number of records, and the first ones; for words without a meaning, the words."""
    ordered = sorted(acceptance.rejected, key=lambda entry: (entry[0], entry[1].record))
    for problem, count in acceptance.problems().items():
        examples = [(files[number].name, one) for number, one in ordered if one.problem == problem][:_SHOWN]
        shown = "; ".join(
            f"{name} record {one.record}{f', object {one.object_text}' if one.object_text else ''}: {one.reason}"
            for name, one in examples
        )
        logger.warning("%s: %d records rejected, e.g. %s", problem, count, shown)
    reasons = Counter(one.reason for _, one in acceptance.rejected if one.problem == Problem.UNKNOWN_VERDICT)
    if reasons:
        listed = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common(_SHOWN_WORDS))
        logger.warning("say in [answers] which of %s is meant: %s", ", ".join(words.verdicts), listed)


def _rejected_table(
    acceptance: Acceptance, files: Sequence[FileRecords], config: ImportConfig, words: Words, reviewers: Reviewers
) -> pa.Table:
    """All rejected records, in the order of the files."""
    rows = []
    for number, file in enumerate(files):
        of_file = sorted((one for at, one in acceptance.rejected if at == number), key=lambda one: one.record)
        contents = rejected_contents(file, [one.record for one in of_file], config, words, reviewers)
        rows += [
            {
                "file": file.name,
                "record": one.record,
                "object_id": one.object_text,
                "problem": str(one.problem),
                "reason": one.reason,
                "content": contents.get(one.record),
            }
            for one in of_file
        ]
    return pa.Table.from_pylist(rows, schema=rejected_schema())


def _as_table(rows: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    arrays = [pa.Array.from_pandas(rows[field.name], type=field.type) for field in schema]
    return pa.table(arrays, schema=schema)
