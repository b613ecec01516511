"""Verdicts from Label Studio: its exports JSON and JSON-MIN.

JSON is a list of tasks, each with `data` and `annotations`; one annotation is one record. JSON-MIN is a list of flat
objects, one an annotation. Documented at https://labelstud.io/guide/export.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from galaxy_batch.errors import InputError
from galaxy_batch.verdicts.config import ImportConfig
from galaxy_batch.verdicts.records import Answer, Content, Problem, UnusableRecord, parse_time
from galaxy_batch.verdicts.words import Words

__all__ = ["LabelStudioReader"]

_HIDING = "#!/"
_CONTROLS = ("verdict", "choice", "choices")  # names of the control in JSON-MIN
_DECODER = json.JSONDecoder(parse_float=str)  # an id that was damaged into a float is shown as it is
_CHARACTERS_BETWEEN = " \t\r\n,"


class LabelStudioReader:
    """Reads an export. A task without annotations gives no record, a skipped one gives one that is rejected."""

    source = "label_studio"

    def __init__(self, words: Words, config: ImportConfig) -> None:
        self._words, self._config = words, config

    def records(self, stream: io.RawIOBase) -> Iterator[tuple[int, Content]]:
        """The annotations, numbered from 1: `{data, annotation}`.

        Raises:
            InputError: the file is not complete, or not JSON.
        """
        number = 0
        for task in _tasks(stream):
            for record in self._of_task(task):
                number += 1
                yield number, record

    def answer(self, content: Content) -> Answer:
        """The verdict of an annotation."""
        data, annotation = content["data"], content["annotation"]
        if not isinstance(data, Mapping) or not isinstance(annotation, Mapping):
            raise UnusableRecord(Problem.UNREADABLE, "is neither a task nor an annotation")
        fields = {_field(name): str(value) for name, value in data.items() if isinstance(value, (str, int))}
        object_text = fields.get(_field(self._config.id_field), "").strip()
        if not object_text:
            raise UnusableRecord(Problem.UNREADABLE, f"the task has no field {self._config.id_field} (id_field)")
        if annotation.get("was_cancelled") or annotation.get("skipped"):
            raise UnusableRecord(Problem.CANCELLED, "skipped by the person", object_text)
        return Answer(
            object_text=object_text,
            verdict=self._verdict(annotation, object_text),
            reviewer=_person(annotation),
            time=parse_time(annotation.get("updated_at")) or parse_time(annotation.get("created_at")),
            queue=fields.get("queue", "").strip(),
            release=fields.get("release", "").strip(),
            model_id=fields.get("model_id", "").strip(),
        )

    def without_names(self, content: Content, pseudonym: Callable[[str], str]) -> Content:
        """The annotation with a pseudonym in place of name and address."""
        annotation = content["annotation"]
        if not isinstance(annotation, Mapping):
            return content
        name = _person(annotation)
        kept = {key: value for key, value in annotation.items() if key in _OF_AN_ANNOTATION}
        return {"data": content["data"], "annotation": {**kept, "completed_by": pseudonym(name) if name else None}}

    def _of_task(self, task: Any) -> Iterator[Content]:
        if not isinstance(task, Mapping):
            yield {"data": task, "annotation": None}
        elif "data" in task:
            annotations = task.get("annotations", task.get("completions")) or []
            data = _without_pictures(task["data"])
            yield from ({"data": data, "annotation": one} for one in annotations)
        else:
            yield {"data": self._data_of(task), "annotation": {**task, "result": self._minimal_result(task)}}

    def _data_of(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """Data of a task of JSON-MIN, which mixes it with the annotation."""
        own = (*_OF_AN_ANNOTATION, "annotator")
        return {name: value for name, value in _without_pictures(task).items() if name not in own}

    def _minimal_result(self, task: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The result of a task of JSON-MIN, as JSON has it."""
        names = [self._config.task] if self._config.task else _CONTROLS
        name = next((name for name in names if name in task), None)
        if name is None:
            return []
        value = task[name]
        choices = value.get("choices", []) if isinstance(value, Mapping) else value
        choices = [choices] if isinstance(choices, str) else choices
        return [{"type": "choices", "from_name": name, "value": {"choices": choices}}]

    def _verdict(self, annotation: Mapping[str, Any], object_text: str) -> str:
        result = annotation.get("result")
        if not isinstance(result, list):
            raise UnusableRecord(Problem.UNREADABLE, "the annotation has no result", object_text)
        words = [word for entry in result for word in self._words_of(entry)]
        if not words:
            raise UnusableRecord(Problem.NO_ANSWER, f"no choice in {self._config.task or 'any control'}", object_text)
        verdicts = {self._words.verdict_of(word, object_text) for word in words}
        if len(verdicts) > 1:
            raise UnusableRecord(Problem.SEVERAL_ANSWERS, f"answered {' and '.join(sorted(verdicts))}", object_text)
        return verdicts.pop()

    def _words_of(self, entry: Any) -> list[str]:
        if not isinstance(entry, Mapping) or entry.get("type") != "choices":
            return []
        if self._config.task not in (None, entry.get("from_name")):
            return []
        value = entry.get("value")
        choices = value.get("choices") if isinstance(value, Mapping) else None
        return [word for word in choices if isinstance(word, str)] if isinstance(choices, list) else []


_OF_AN_ANNOTATION = (
    "id", "annotation_id", "result", "was_cancelled", "skipped", "created_at", "updated_at", "lead_time",
)  # fmt: skip


def _tasks(stream: io.RawIOBase) -> Iterator[Any]:
    """The elements of a JSON list, or one object, one at a time: memory holds the text and one of them."""
    try:
        text = stream.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("files", "", f"is not UTF-8: {error.reason}") from None
    place = _next(text, 0)
    is_list = text[place : place + 1] == "["
    place = _next(text, place + 1) if is_list else place
    while place < len(text) and not (is_list and text[place] == "]"):
        try:
            task, place = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise InputError("files", "", f"is damaged or not complete: {error}") from None
        yield task
        place = _next(text, place)
    if is_list and (place >= len(text) or text[place] != "]"):
        raise InputError("files", "", "ends within the list of tasks: the file is not complete")


def _without_pictures(data: Any) -> Any:
    """The data of a task without pictures that are within it (`data:image/jpeg;base64,…`)."""
    if not isinstance(data, Mapping):
        return data
    within = [name for name, value in data.items() if isinstance(value, str) and value.startswith("data:")]
    return {name: value.partition(",")[0] if name in within else value for name, value in data.items()}


def _next(text: str, place: int) -> int:
    """Place of the next character that is neither white space nor a comma."""
    while place < len(text) and text[place] in _CHARACTERS_BETWEEN:
        place += 1
    return place


def _person(annotation: Mapping[str, Any]) -> str:
    """The person's address, or number in Label Studio; empty where it is not there."""
    by = annotation.get("completed_by", annotation.get("annotator"))
    if isinstance(by, Mapping):
        by = by.get("email") or by.get("id")
    if by is None or by == "" or isinstance(by, bool):
        return ""
    return by.strip() if isinstance(by, str) else f"label-studio-{by}"


def _field(name: str) -> str:
    return name.strip().lstrip(_HIDING).strip().casefold()
