"""Which answers count: about objects of this catalog, and the last one of each person."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.verdicts.objects import known_objects, unknown_reason
from galaxy_batch.verdicts.people import person_of_each
from galaxy_batch.verdicts.records import Problem
from galaxy_batch.verdicts.reviewers import Reviewers
from galaxy_batch.verdicts.verdict_files import FileRecords, Rejected

__all__ = ["Acceptance", "accept"]


@dataclass
class Acceptance:
    """Answers that count, and records that do not."""

    answers: pd.DataFrame
    """`file`, `record`, `source`, `object_id`, `verdict`, `reviewer`, `time`, `queue`."""
    rejected: list[tuple[int, Rejected]] = field(default_factory=list)
    """With the number of the file."""

    def reject(self, rows: "pd.Series[bool]", problem: Problem, reasons: Sequence[str]) -> None:
        """Take answers out, each for a reason of its own."""
        out = self.answers[rows]
        self.rejected += [
            (file, Rejected(record, str(object_id), problem, reason))
            for file, record, object_id, reason in zip(
                out["file"].tolist(), out["record"].tolist(), out["object_id"].tolist(), reasons, strict=True
            )
        ]
        self.answers = self.answers[~rows]

    def problems(self) -> dict[str, int]:
        """Number of rejected records by problem, in the order of `Problem`."""
        counted = Counter(rejected.problem for _, rejected in self.rejected)
        return {str(problem): counted[problem] for problem in Problem if counted[problem]}


def accept(
    files: Sequence[FileRecords], catalog_uri: str, manifest: CatalogManifest, reviewers: Reviewers
) -> Acceptance:
    """Sort the answers of all files into those that count and those that do not."""
    acceptance = Acceptance(
        _answers(files), [(number, rejected) for number, file in enumerate(files) for rejected in file.rejected]
    )
    _reject_other_catalogs(acceptance, manifest)
    _reject_unknown_objects(acceptance, catalog_uri, manifest)
    people = person_of_each(acceptance.answers, reviewers)
    acceptance.answers = acceptance.answers.assign(reviewer=people)
    _reject_earlier(acceptance)
    return acceptance


def _answers(files: Sequence[FileRecords]) -> pd.DataFrame:
    """One row an answer, in the order of the files and their records."""
    answers = [answer for file in files for answer in file.answers]
    columns: dict[str, Any] = {
        "file": [number for number, file in enumerate(files) for _ in file.answers],
        "record": [record for file in files for record in file.records],
        "source": pd.Series([file.format for file in files for _ in file.answers], dtype=object),
        "object_id": [object_id for file in files for object_id in file.ids],
        "time": pd.Series([answer.time for answer in answers], dtype="datetime64[us, UTC]"),
    }
    for name in ("verdict", "reviewer", "queue", "release", "model_id"):
        columns[name] = pd.Series([getattr(answer, name) for answer in answers], dtype=object)
    return pd.DataFrame(columns)


def _reject_other_catalogs(acceptance: Acceptance, manifest: CatalogManifest) -> None:
    for name, own in (("release", manifest.release), ("model_id", manifest.model_id)):
        stated = acceptance.answers[name]
        other = (stated != "") & (stated != own)
        reasons = [f"made for {name} {value[:100]}, and this catalog has {own}" for value in stated[other]]
        acceptance.reject(other, Problem.OTHER_CATALOG, reasons)


def _reject_unknown_objects(acceptance: Acceptance, catalog_uri: str, manifest: CatalogManifest) -> None:
    ids = acceptance.answers["object_id"]
    unknown = ~ids.isin(known_objects(catalog_uri, manifest, ids.tolist()))
    bad = [unknown_reason(one) for one in ids[unknown].tolist()]
    damaged = pd.Series([one.problem == Problem.DAMAGED_ID for one in bad], ids[unknown].index, dtype=bool)
    damaged = damaged.reindex(ids.index, fill_value=False)
    acceptance.reject(damaged, Problem.DAMAGED_ID, [one.reason for one in bad if one.problem == Problem.DAMAGED_ID])
    left = unknown[~damaged]
    reasons = [one.reason for one in bad if one.problem != Problem.DAMAGED_ID]
    acceptance.reject(left, Problem.UNKNOWN_OBJECT, reasons)


def _reject_earlier(acceptance: Acceptance) -> None:
    """Of several answers of one person about one object, the last by time counts; without times, the last as given."""
    order = ["object_id", "reviewer", "time", "file", "record"]
    acceptance.answers = acceptance.answers.sort_values(order, na_position="first", kind="stable")
    earlier = acceptance.answers.duplicated(["object_id", "reviewer"], keep="last")
    last = acceptance.answers.groupby(["object_id", "reviewer"])["verdict"].transform("last")
    same = acceptance.answers["verdict"] == last
    contradicted = earlier & ~same
    said = zip(acceptance.answers["verdict"][contradicted], last[contradicted], strict=True)
    reasons = [f"said {verdict}, and {final} later" for verdict, final in said]
    acceptance.reject(contradicted, Problem.CONTRADICTED, reasons)
    repeated = (earlier & same)[~contradicted]
    acceptance.reject(repeated, Problem.REPEATED, ["said the same later"] * int(repeated.sum()))
