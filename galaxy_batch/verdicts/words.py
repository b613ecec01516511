"""Words that people answered with, and the verdicts that they mean."""

import functools
import re
from collections.abc import Mapping, Sequence

from galaxy_batch.errors import InputError
from galaxy_batch.verdicts.records import Problem, UnusableRecord

__all__ = ["Words"]

_IMAGE = re.compile(r"!\[([^\]]*)\]\([^)]*\)")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_TAG = re.compile(r"<[^>]*>")
_ENDING = re.compile(r"\.\w{1,5}$")
_NOT_A_LETTER = re.compile(r"[\W_]+")


class Words:
    """The verdict that a word stands for.

    A word is a verdict where both are equal but for upper and lower case, punctuation, images and Markdown; other words
    need an entry in `answers`.

    Args:
        verdicts: possible verdicts.
        answers: word -> verdict.

    Raises:
        InputError: an answer stands for something that is not a verdict, or for two of them.
    """

    def __init__(self, verdicts: Sequence[str], answers: Mapping[str, str]) -> None:
        self.verdicts = tuple(verdicts)
        self._meaning = {_plain(verdict): verdict for verdict in verdicts}
        own: dict[str, str] = {}
        for word, verdict in answers.items():
            if verdict not in verdicts:
                raise InputError(f"answers.{word}", verdict, f"is not a verdict; they are {', '.join(verdicts)}")
            if own.setdefault(_plain(word), verdict) != verdict:
                raise InputError(f"answers.{word}", verdict, "another answer differs from it only in case or markup")
        self._meaning |= own
        self._plain = functools.lru_cache(maxsize=10_000)(_plain)

    def verdict_of(self, word: str, object_text: str | None = None) -> str:
        """The verdict. Raises `UnusableRecord` where the word stands for none."""
        plain = self._plain(word)
        if plain not in self._meaning:
            shown = " ".join(word.split())[:100]
            raise UnusableRecord(Problem.UNKNOWN_VERDICT, f"the answer {shown!r} is not a verdict", object_text)
        return self._meaning[plain]


def _plain(word: str) -> str:
    """The letters and digits of a text without markup; of an image that stands alone, those of its name."""
    text = _LINK.sub(r"\1", _IMAGE.sub(" ", word))
    if not text.strip():
        text = " ".join(_ENDING.sub("", name) for name in _IMAGE.findall(word))
    return _NOT_A_LETTER.sub("_", _TAG.sub(" ", text).casefold()).strip("_")
