"""Who gave which verdict: pseudonyms, and people without a name told apart by file."""

from collections.abc import Sequence

import pandas as pd

from galaxy_batch.verdicts.reviewers import Reviewers

__all__ = ["person_of_each"]


def person_of_each(answers: pd.DataFrame, reviewers: Reviewers) -> "pd.Series[str]":
    """What the person of each answer is called.

    All answers of one file without a name are one person's. Two files with an equal one (object, verdict and time) are
    of the same person, as when one exports twice.

    Args:
        answers: `file` (its number), `object_id`, `verdict`, `reviewer` (name or empty), `time`.
        reviewers: how people are called.
    """
    names = answers["reviewer"]
    called = names.map({name: reviewers.called(name) for name in names.unique() if name})
    unnamed = answers[names == ""]
    if unnamed.empty:
        return called
    timed = unnamed[unnamed["time"].notna()]
    together = [list(files) for files in timed.groupby(["object_id", "verdict", "time"])["file"].unique()]
    person = _joined(unnamed["file"].unique().tolist(), together)
    of_file = unnamed["file"].map(person)
    first = unnamed.sort_values(["time", "object_id"], na_position="last", kind="stable").groupby(of_file).first()
    records = first[["time", "object_id", "verdict"]].itertuples(name=None)  # a time may be missing
    unnamed_called = {number: reviewers.unnamed(" ".join(map(str, record))) for number, *record in records}
    return called.where(names != "", of_file.map(unnamed_called).reindex(answers.index))


def _joined(files: Sequence[int], together: Sequence[Sequence[int]]) -> dict[int, int]:
    """The first file of the person of each file."""
    person = {file: file for file in files}
    for linked in together:
        persons = {person[file] for file in linked}
        if len(persons) > 1:
            person = {file: min(persons) if own in persons else own for file, own in person.items()}
    return person
