import pandas as pd

from galaxy_batch.verdicts.people import person_of_each
from galaxy_batch.verdicts.reviewers import Reviewers

REVIEWERS = Reviewers(b"k" * 32, names=True)


def answers(*rows: tuple[int, str, str, str, str | None]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["file", "object_id", "verdict", "reviewer", "time"])
    return table.assign(time=pd.to_datetime(table["time"], utc=True))


def test_names_stay_and_answers_of_one_file_are_one_person() -> None:
    table = answers((0, "7", "smooth", "Ada", None), (0, "8", "smooth", "", None), (0, "9", "featured", "", None))
    ada, first, second = person_of_each(table, REVIEWERS)
    assert ada == "Ada"
    assert first == second
    assert first.startswith("anonymous-")


def test_files_without_times_are_different_people() -> None:
    first, second = person_of_each(answers((0, "7", "smooth", "", None), (1, "8", "smooth", "", None)), REVIEWERS)
    assert first != second


def test_a_file_exported_twice_is_one_person() -> None:
    at = "2026-11-26T18:00:00Z"
    table = answers((0, "7", "smooth", "", at), (1, "7", "smooth", "", at), (1, "8", "smooth", "", None))
    assert person_of_each(table, REVIEWERS).nunique() == 1
