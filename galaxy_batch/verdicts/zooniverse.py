"""Verdicts of Zooniverse's volunteers: the classification export of a project or workflow, a CSV.

One line is one classification: one person, one subject, the answers to the tasks of one workflow. `annotations`,
`subject_data` and `metadata` are JSON. Documented at https://help.zooniverse.org/next-steps/data-exports.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from galaxy_batch.verdicts.config import ImportConfig
from galaxy_batch.verdicts.records import (
    Answer,
    Content,
    Problem,
    UnusableRecord,
    parse_time,
    read_csv_records,
)
from galaxy_batch.verdicts.words import Words

__all__ = ["ZooniverseReader"]

_HIDING = "#!/"  # leading characters of fields that volunteers do not see, or see on Talk only
_NAMING = ("user_name", "user_id", "user_ip")
_WORD_KEYS = ("label", "choice", "selection", "value")  # of dropdowns, surveys


class ZooniverseReader:
    """Reads a classification export.

    The verdict is the answer to the first task that has one, or to `config.task`: a question, a dropdown with one
    selection, or a survey with one choice. A line without an answer, or with several that mean different verdicts,
    gives none.
    """

    source = "zooniverse"

    def __init__(self, words: Words, config: ImportConfig) -> None:
        self._words, self._config = words, config

    def records(self, stream: io.RawIOBase) -> Iterator[tuple[int, Content]]:
        """The classifications, with the number of their line."""
        return read_csv_records(stream)

    def answer(self, content: Content) -> Answer:
        """The verdict of a classification."""
        subject = self._subject(content["subject_data"])
        object_text = subject.get(_field(self._config.id_field), "").strip()
        workflow = content.get("workflow_id", "")
        if self._config.workflows and workflow not in self._config.workflows:
            raise UnusableRecord(Problem.OTHER_WORKFLOW, f"of workflow {workflow}", object_text or None)
        if not object_text:
            raise UnusableRecord(Problem.UNREADABLE, f"the subject has no field {self._config.id_field} (id_field)")
        return Answer(
            object_text=object_text,
            verdict=self._verdict(content["annotations"], object_text),
            reviewer=(content.get("user_name") or content.get("user_id") or "").strip(),
            time=parse_time(content.get("created_at")),
            queue=subject.get("queue", "").strip(),
            release=subject.get("release", "").strip(),
            model_id=subject.get("model_id", "").strip(),
        )

    def without_names(self, content: Content, pseudonym: Callable[[str], str]) -> Content:
        """The classification without name, number, address and browser of the person."""
        name = (content.get("user_name") or content.get("user_id") or "").strip()
        kept = {key: value for key, value in content.items() if key not in (*_NAMING, "metadata")}
        return {"user_name": pseudonym(name) if name else "", **kept}

    def _subject(self, text: str) -> dict[str, str]:
        """Fields of the subject, as texts, by their plain names."""
        subjects = _parsed(text, "subject_data")
        if not isinstance(subjects, Mapping) or not all(isinstance(one, Mapping) for one in subjects.values()):
            raise UnusableRecord(Problem.UNREADABLE, "subject_data does not describe a subject")
        if len(subjects) != 1:
            raise UnusableRecord(Problem.UNREADABLE, f"a classification of {len(subjects)} subjects")
        (fields,) = subjects.values()
        return {_field(name): str(value) for name, value in fields.items() if isinstance(value, (str, int))}

    def _verdict(self, text: str, object_text: str) -> str:
        annotations = _parsed(text, "annotations", object_text)
        if not isinstance(annotations, Sequence) or isinstance(annotations, str):
            raise UnusableRecord(Problem.UNREADABLE, "annotations is not a list of tasks", object_text)
        for annotation in _flat(annotations):
            if self._config.task in (None, annotation.get("task")):
                words = list(_words_in(annotation.get("value")))
                if words:
                    return self._one_verdict(words, object_text)
        raise UnusableRecord(Problem.NO_ANSWER, f"no answer to {self._config.task or 'any task'}", object_text)

    def _one_verdict(self, words: Sequence[str], object_text: str) -> str:
        verdicts = {self._words.verdict_of(word, object_text) for word in words}
        if len(verdicts) > 1:
            raise UnusableRecord(Problem.SEVERAL_ANSWERS, f"answered {' and '.join(sorted(verdicts))}", object_text)
        return verdicts.pop()


def _parsed(text: str, field: str, object_text: str | None = None) -> Any:
    try:
        return json.loads(text, parse_float=str)  # an id that was damaged into a float is shown as it is
    except (ValueError, RecursionError):
        raise UnusableRecord(Problem.UNREADABLE, f"{field} is not JSON", object_text) from None


def _field(name: str) -> str:
    return name.strip().lstrip(_HIDING).strip().casefold()


def _flat(annotations: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    """The answers in order; those within a combined task one by one."""
    for annotation in annotations:
        if not isinstance(annotation, Mapping):
            continue
        value = annotation.get("value")
        if isinstance(value, list) and value and all(isinstance(one, Mapping) and "task" in one for one in value):
            yield from _flat(value)
        else:
            yield annotation


def _words_in(value: Any) -> Iterator[str]:
    """The words of an answer: of a question, with one or several answers, of dropdowns, of a survey."""
    if isinstance(value, str) and value.strip():
        yield value
    elif isinstance(value, int) and not isinstance(value, bool):
        yield str(value)
    elif isinstance(value, Mapping):
        yield from _words_in(next((value[key] for key in _WORD_KEYS if value.get(key) not in (None, "")), None))
    elif isinstance(value, list):
        for one in value:
            yield from _words_in(one)
