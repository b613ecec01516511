"""The questions that volunteers answer about a galaxy, as data: answers, and which answer leads to which question.

`GALAXY_ZOO_2` is the tree of Galaxy Zoo 2 (Willett et al. 2013, MNRAS 435, 2835, table 2). A checkpoint carries the
questions that it knows, `VOTE_COLUMNS` has the columns of each answer in the published tables, and the functions here
name the columns of a catalog and compute them.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from galaxy_batch.errors import InputError

__all__ = [
    "GALAXY_ZOO_2",
    "MOSTLY_ASKED",
    "VOTE_COLUMNS",
    "Answer",
    "Question",
    "answer_fractions",
    "asked_fractions",
    "known_questions",
    "split_answers",
]

Array = npt.NDArray[np.floating[Any]]

MOSTLY_ASKED = 0.5
"""Share of the volunteers: where fewer are expected to be asked a question, its fractions say little of the galaxy, and
pages leave the galaxy out."""


@dataclass(frozen=True)
class Answer:
    """One answer to a question."""

    name: str
    """Part of a column name: a-z, 0-9 and underscores."""
    next: str | None = None
    """Name of the question that a volunteer who gives this answer is asked next; None ends the classification."""

    @property
    def title(self) -> str:
        """The name in words, for pages."""
        return self.name.replace("_", " ")


@dataclass(frozen=True)
class Question:
    """One question, asked of the volunteers whose previous answer leads to it; the first one of a tree of all."""

    name: str
    """Part of a column name: a-z, 0-9 and underscores."""
    answers: tuple[Answer, ...]

    @property
    def title(self) -> str:
        """The name in words, for pages."""
        return self.name.replace("_", " ")

    @property
    def asked_column(self) -> str:
        """Column of the expected share of the volunteers who are asked this question."""
        return f"{self.name}_asked_fraction"

    @property
    def fraction_columns(self) -> tuple[str, ...]:
        """Column of each answer's expected share of the volunteers who are asked, in order."""
        return tuple(f"{self.name}_{answer.name}_fraction" for answer in self.answers)

    @property
    def dirichlet_columns(self) -> tuple[str, ...]:
        """Column of each answer's Dirichlet concentration, in order."""
        return tuple(f"{self.name}_{answer.name}_dirichlet" for answer in self.answers)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`.

        Raises:
            KeyError, TypeError: not a question.
        """
        return cls(value["name"], tuple(Answer(answer["name"], answer["next"]) for answer in value["answers"]))


def _question(name: str, **answers: str | None) -> Question:
    return Question(name, tuple(Answer(answer.lstrip("_"), after) for answer, after in answers.items()))


GALAXY_ZOO_2: tuple[Question, ...] = (
    _question("smooth_or_featured", smooth="how_rounded", featured_or_disk="disk_edge_on", artifact=None),
    _question("disk_edge_on", yes="bulge_shape", no="bar"),
    _question("bar", yes="has_spiral_arms", no="has_spiral_arms"),
    _question("has_spiral_arms", yes="spiral_winding", no="bulge_size"),
    _question(
        "bulge_size",
        no="something_odd", just_noticeable="something_odd", obvious="something_odd", dominant="something_odd",
    ),
    _question("something_odd", yes="odd_feature", no=None),
    _question("how_rounded", round="something_odd", in_between="something_odd", cigar="something_odd"),
    _question(
        "odd_feature",
        ring=None, lens_or_arc=None, disturbed=None, irregular=None, other=None, merger=None, dust_lane=None,
    ),
    _question("bulge_shape", rounded="something_odd", boxy="something_odd", no_bulge="something_odd"),
    _question("spiral_winding", tight="spiral_arm_count", medium="spiral_arm_count", loose="spiral_arm_count"),
    _question(
        "spiral_arm_count",
        _1="bulge_size", _2="bulge_size", _3="bulge_size", _4="bulge_size", more_than_4="bulge_size",
        cant_tell="bulge_size",
    ),
)  # fmt: skip
"""All questions of Galaxy Zoo 2, in the order of its tables: tasks 01 to 11, Kaggle's Class1 to Class11."""

_GZ2_TASKS = {
    "t01_smooth_or_features": ("a01_smooth", "a02_features_or_disk", "a03_star_or_artifact"),
    "t02_edgeon": ("a04_yes", "a05_no"),
    "t03_bar": ("a06_bar", "a07_no_bar"),
    "t04_spiral": ("a08_spiral", "a09_no_spiral"),
    "t05_bulge_prominence": ("a10_no_bulge", "a11_just_noticeable", "a12_obvious", "a13_dominant"),
    "t06_odd": ("a14_yes", "a15_no"),
    "t07_rounded": ("a16_completely_round", "a17_in_between", "a18_cigar_shaped"),
    "t08_odd_feature": (
        "a19_ring", "a20_lens_or_arc", "a21_disturbed", "a22_irregular", "a23_other", "a24_merger", "a38_dust_lane",
    ),
    "t09_bulge_shape": ("a25_rounded", "a26_boxy", "a27_no_bulge"),
    "t10_arms_winding": ("a28_tight", "a29_medium", "a30_loose"),
    "t11_arms_number": ("a31_1", "a32_2", "a33_3", "a34_4", "a36_more_than_4", "a37_cant_tell"),
}  # fmt: skip
_NAMES_IN_GALAXY_DATASETS = {
    "smooth_or_featured": ("smooth", "featured-or-disk", "artifact"),
    "disk_edge_on": ("yes", "no"),
    "bar": ("yes", "no"),
    "has_spiral_arms": ("yes", "no"),
    "bulge_size": ("no", "just-noticeable", "obvious", "dominant"),
    "something_odd": ("yes", "no"),
    "how_rounded": ("round", "in-between", "cigar"),
    "bulge_shape": ("round", "boxy", "no-bulge"),
    "spiral_winding": ("tight", "medium", "loose"),
    "spiral_arm_count": ("1", "2", "3", "4", "more-than-4", "cant-tell"),
}

VOTE_COLUMNS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "kaggle": {
        question.name: tuple(f"Class{number}.{place}" for place, _ in enumerate(question.answers, 1))
        for number, question in enumerate(GALAXY_ZOO_2, 1)
    },
    "gz2": {
        question.name: tuple(f"{task}_{answer}_count" for answer in answers)
        for question, (task, answers) in zip(GALAXY_ZOO_2, _GZ2_TASKS.items(), strict=True)
    },
    "galaxy-datasets": {
        name: tuple(f"{name.replace('_', '-')}-gz2_{answer}" for answer in answers)
        for name, answers in _NAMES_IN_GALAXY_DATASETS.items()
    },
}
"""Vote columns by table, question and answer. `kaggle`: shares of all volunteers, that is, multiplied with the share
who are asked. `gz2` (Willett 2013, Hart 2016) and `galaxy-datasets`: counts. galaxy-datasets leaves odd features
out."""


def known_questions(names: Iterable[str], tree: Sequence[Question] = GALAXY_ZOO_2) -> tuple[Question, ...]:
    """Some questions of a tree, each answer leading to the next one of these.

    Raises:
        InputError: a name is not in the tree, the first question of the tree is left out, or one is left out that
            decides whether a later one is asked.
    """
    chosen, by_name = set(names), {question.name: question for question in tree}
    field = "labels.questions"
    for name in chosen:
        if name not in by_name:
            raise InputError(field, name, f"no such question; there are {', '.join(by_name)}")
    if chosen and tree[0].name not in chosen:
        raise InputError(field, sorted(chosen), f"every volunteer starts at {tree[0].name}: add it")

    @functools.cache
    def first_known(name: str | None) -> str | None:
        if name is None or name in chosen:
            return name
        followers = {first_known(answer.next) for answer in by_name[name].answers}
        if len(followers) > 1:
            after = " or ".join(sorted(str(f) for f in followers if f is not None))
            raise InputError(field, sorted(chosen), f"{name} decides whether {after} is asked: add it")
        return followers.pop()

    return tuple(
        Question(q.name, tuple(Answer(a.name, first_known(a.next)) for a in q.answers))
        for q in tree
        if q.name in chosen
    )


def split_answers(questions: Sequence[Question], values: Array) -> dict[str, Array]:
    """Values ``(…, answers of all questions)`` by question, each ``(…, answers)``."""
    ends = np.cumsum([len(question.answers) for question in questions])[:-1]
    parts = np.split(values, ends, axis=-1)
    return {question.name: part for question, part in zip(questions, parts, strict=True)}


def answer_fractions(questions: Sequence[Question], concentrations: Array) -> dict[str, Array]:
    """Expected share of each answer among the volunteers who are asked, by question: ``(N, answers)``, sum 1.

    The mean of a Dirichlet distribution: each concentration divided by their sum.

    Args:
        questions: that the columns belong to.
        concentrations: ``(N, answers of all questions)``, positive.
    """
    split = split_answers(questions, concentrations)
    return {name: values / values.sum(axis=-1, keepdims=True) for name, values in split.items()}


def asked_fractions(questions: Sequence[Question], fractions: Mapping[str, Array]) -> dict[str, Array]:
    """Expected share of all volunteers who are asked each question, by question: ``(N,)``.

    The first question is asked of all; another one of those whose answers lead to it: the product of the fractions
    along the path, summed over paths.

    Args:
        questions: of one tree, as `known_questions` gives them; each answer leads to a later step or ends.
        fractions: of each question's answers, ``(N, answers)``.
    """
    first = questions[0].name
    asked = {first: np.ones_like(fractions[first][..., 0])}
    by_name = {question.name: question for question in questions}
    for name in _in_order_of_asking(questions):
        if name not in asked:
            asked[name] = np.zeros_like(asked[first])
        for place, answer in enumerate(by_name[name].answers):
            if answer.next is not None:
                asked[answer.next] = asked.get(answer.next, 0) + asked[name] * fractions[name][..., place]
    return {question.name: np.minimum(asked[question.name], 1) for question in questions}  # sums are rounded


def _in_order_of_asking(questions: Sequence[Question]) -> list[str]:
    """Names, each after all questions that lead to it."""
    leading = {q.name: {p.name for p in questions if any(a.next == q.name for a in p.answers)} for q in questions}
    order: list[str] = []
    while len(order) < len(questions):
        order += [name for name, before in leading.items() if name not in order and before <= set(order)]
    return order
