"""What can go wrong, in one tree; a job's exit code follows from it.

::

    Exception
    └── GalaxyBatchError          errors for which a traceback is not useful
        ├── InputError            exit 2: a config, command, manifest or checkpoint that cannot be used
        └── GateError             exit 3: the work was done, and what came out is not good enough

A bad *image* is neither: it is a row with a status. Anything else that is raised is a bug or a
machine that failed, and keeps its traceback (exit 1).
"""

from collections.abc import Mapping
from typing import Any

__all__ = ["GalaxyBatchError", "GateError", "InputError"]


class GalaxyBatchError(Exception):
    """An error that its message explains: no traceback is shown for it."""


class InputError(GalaxyBatchError, ValueError):
    """Something that the user gave cannot be used; the message says which, its value, and the remedy."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        self.field, self.value, self.remedy = field, value, remedy
        super().__init__(field, value, remedy)  # all three, so that the error survives pickling between processes

    def __str__(self) -> str:
        shown = repr(self.value)
        if len(shown) > 300:
            shown = shown[:300] + "…"
        return f"{self.field} = {shown}: {self.remedy}"


class GateError(GalaxyBatchError):
    """A gate that the result did not pass; `summary` is the job's JSON summary all the same."""

    def __init__(self, message: str, summary: Mapping[str, Any]) -> None:
        self.message, self.summary = message, dict(summary)
        super().__init__(message, self.summary)

    def __str__(self) -> str:
        return self.message
