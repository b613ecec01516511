import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from galaxy_batch.errors import InputError
from train.config import LabelConfig
from train.data.question_votes import question_columns, question_counts, questions_of

FEW = ("smooth_or_featured", "disk_edge_on")
SHARES = {
    "Class1.1": [0.25, 0.5], "Class1.2": [0.75, 0.5], "Class1.3": [0.0, 0.0], "Class2.1": [0.5, math.nan],
    "Class2.2": [0.25, math.nan],
}  # fmt: skip


def table(**changes: list[float]) -> pa.Table:
    return pa.table({"object_id": [7, 8], **SHARES, **changes})


def test_shares_become_votes() -> None:
    """Kaggle's shares are of all volunteers, so that nobody is asked where they are 0."""
    counts = question_counts(table(), LabelConfig(questions=FEW))
    assert counts.tolist() == [[10, 30, 0, 20, 10], [20, 20, 0, 0, 0]]
    assert counts.dtype == np.float32
    counts = question_counts(table(), LabelConfig(questions=FEW, volunteers=60))
    assert counts[0].tolist() == [15, 45, 0, 30, 15]
    config = LabelConfig(questions=FEW, volunteers_column="volunteers")
    counts = question_counts(table(volunteers=[20, 100]), config)
    assert counts.tolist() == [[5, 15, 0, 10, 5], [50, 50, 0, 0, 0]]
    assert question_columns(config) == [*SHARES, "volunteers"]


def test_counts_are_votes() -> None:
    config = LabelConfig(table="gz2", questions=FEW)
    names = question_columns(config)
    assert names[-2:] == ["t02_edgeon_a04_yes_count", "t02_edgeon_a05_no_count"]
    votes = pa.table({"object_id": [7], **{name: [number] for number, name in enumerate(names)}})
    assert question_counts(votes, config).tolist() == [[0, 1, 2, 3, 4]]


def test_no_questions_have_no_columns() -> None:
    assert question_columns(LabelConfig(volunteers_column="volunteers")) == []
    assert question_counts(table(), LabelConfig()).shape == (2, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Class1.1": [-0.1, 0.5]}, "1 galaxies have votes below 0, or shares of a question above 1, for example 7"),
        ({"Class1.1": [0.25, 0.6]}, "1 galaxies have votes below 0, or shares of a question above 1, for example 8"),
        ({"Class2.1": ["many", "few"]}, "of type string: votes are numbers"),
    ],
)
def test_invalid_votes_are_reported(changes: dict[str, list[float]], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        question_counts(table(**changes), LabelConfig(questions=FEW))
    assert caught.value.field == "labels.questions"


def test_questions_without_votes_in_the_table_are_refused() -> None:
    config = LabelConfig(table="galaxy-datasets", questions=("smooth_or_featured", "something_odd", "odd_feature"))
    with pytest.raises(InputError, match="a galaxy-datasets table has no votes for it") as caught:
        questions_of(config)
    assert caught.value.value == "odd_feature"
    with pytest.raises(InputError, match="no such question"):
        questions_of(LabelConfig(questions=("ring",)))
    with pytest.raises(InputError, match='not with table = "columns"'):
        LabelConfig(table="columns", columns={"a": "x", "b": "y"}, questions=FEW)


def test_real_shares_are_whole_numbers_of_votes_of_some_volunteers(sky: Path) -> None:
    """In the table of Kaggle the later questions are answered by those whom the earlier answers lead there."""
    shares = pd.read_csv(sky / "gz2" / "training_solutions.csv").rename(columns={"GalaxyID": "object_id"})
    config = LabelConfig(questions=(*FEW, "something_odd", "how_rounded", "odd_feature"))
    counts = question_counts(pa.Table.from_pandas(shares), config)
    assert counts.shape == (4013, 17)
    assert np.allclose(counts[:, :3].sum(axis=1), 40, atol=1e-3)
    assert np.allclose(counts[:, 3:5].sum(axis=1), counts[:, 1], atol=1e-3)  # edge-on: asked where featured
