from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from train.labels import AMBIGUOUS, label_votes
from train.recipe import LabelConfig, TrainConfig
from train.study import read_galaxies


def votes(*rows: tuple[float, float, float]) -> pa.Table:
    columns = {f"Class1.{i + 1}": [row[i] for row in rows] for i in range(3)}
    return pa.table({"object_id": np.arange(len(rows)) + 100, **columns})


def test_the_threshold_is_included() -> None:
    labels = label_votes(votes((0.6, 0.4, 0.0), (0.59, 0.41, 0.0), (0.1, 0.8, 0.1), (0.0, 0.0, 1.0)), LabelConfig())
    assert labels.label.tolist() == [0, AMBIGUOUS, 1, AMBIGUOUS]
    assert labels.counts() == {"smooth": 1, "featured": 1, "ambiguous": 2}
    assert labels.votes.shape == (4, 2)


def test_a_third_class_is_one_more_column() -> None:
    config = LabelConfig(
        columns={"smooth": "Class1.1", "featured": "Class1.2", "artifact": "Class1.3"}, other_columns=()
    )
    assert label_votes(votes((0.0, 0.0, 1.0), (0.7, 0.2, 0.1)), config).label.tolist() == [2, 0]


@pytest.mark.parametrize("row", [(-0.1, 1.0, 0.1), (1.2, -0.2, 0.0), (0.5, 0.3, 0.0), (float("nan"), 0.5, 0.5)])
def test_votes_that_cannot_be_right_are_named_by_galaxy(row: tuple[float, float, float]) -> None:
    with pytest.raises(InputError, match=r"1 galaxies have votes .* 101 has "):
        label_votes(votes((1.0, 0.0, 0.0), row), LabelConfig())


def test_counts_of_the_real_votes(sky: Path) -> None:
    config = TrainConfig(
        output_uri="unused",
        galaxies=ManifestConfig(
            uri=str(sky / "gz2" / "training_solutions.csv"), id_column="GalaxyID", uri_template="images/{GalaxyID}.jpg"
        ),
    )
    galaxies, labels = read_galaxies(config)
    assert labels.counts() == {"smooth": 1347, "featured": 1833, "ambiguous": 833}
    assert len(galaxies) == 4013
