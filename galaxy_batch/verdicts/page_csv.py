"""Verdicts as the review page exports them: a CSV with one line a verdict.

Columns: `object_id`, `verdict`, and where present `reviewer`, `time`, `queue`, `release`, `model_id`.
"""

import io
from collections.abc import Callable, Iterator

from galaxy_batch.verdicts.records import (
    Answer,
    Content,
    Problem,
    UnusableRecord,
    parse_time,
    read_csv_records,
)
from galaxy_batch.verdicts.words import Words

__all__ = ["PageReader"]


class PageReader:
    """Reads the CSV of the review page."""

    source = "page"

    def __init__(self, words: Words) -> None:
        self._words = words

    def records(self, stream: io.RawIOBase) -> Iterator[tuple[int, Content]]:
        """The lines, with their numbers."""
        return read_csv_records(stream)

    def answer(self, content: Content) -> Answer:
        """The verdict of a line."""
        object_text = content["object_id"].strip()
        if not content["verdict"].strip():
            raise UnusableRecord(Problem.NO_ANSWER, "no verdict", object_text)
        return Answer(
            object_text=object_text,
            verdict=self._words.verdict_of(content["verdict"], object_text),
            reviewer=content.get("reviewer", "").strip(),
            time=parse_time(content.get("time")),
            queue=content.get("queue", "").strip(),
            release=content.get("release", "").strip(),
            model_id=content.get("model_id", "").strip(),
        )

    def without_names(self, content: Content, pseudonym: Callable[[str], str]) -> Content:
        """The line with a pseudonym."""
        name = content.get("reviewer", "").strip()
        return {**content, "reviewer": pseudonym(name)} if name else content
