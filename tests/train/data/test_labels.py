from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy.table import Table

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from train.config import LabelConfig, TrainConfig
from train.data.labels import AMBIGUOUS, label_votes
from train.run import read_galaxies


def votes(*rows: tuple[float, float, float]) -> pa.Table:
    columns = {f"Class1.{i + 1}": [row[i] for row in rows] for i in range(3)}
    return pa.table({"object_id": np.arange(len(rows)) + 100, **columns})


def test_threshold_is_inclusive() -> None:
    labels = label_votes(votes((0.6, 0.4, 0.0), (0.59, 0.41, 0.0), (0.1, 0.8, 0.1), (0.0, 0.0, 1.0)), LabelConfig())
    assert labels.label.tolist() == [0, AMBIGUOUS, 1, AMBIGUOUS]
    assert labels.counts() == {"smooth": 1, "featured": 1, "ambiguous": 2}
    assert labels.votes.shape == (4, 2)


def test_star_or_artifact_can_be_a_class() -> None:
    labels = label_votes(votes((0.0, 0.0, 1.0), (0.7, 0.2, 0.1)), LabelConfig(artifact_class=True))
    assert labels.classes == ("smooth", "featured", "artifact")
    assert labels.label.tolist() == [2, 0]


@pytest.mark.parametrize("row", [(-0.1, 1.0, 0.1), (1.2, -0.2, 0.0), (0.5, 0.3, 0.0), (float("nan"), 0.5, 0.5)])
def test_invalid_fractions_are_reported_by_galaxy(row: tuple[float, float, float]) -> None:
    with pytest.raises(InputError, match=r"1 galaxies have votes .* 101 has "):
        label_votes(votes((1.0, 0.0, 0.0), row), LabelConfig())


@pytest.mark.parametrize("row", [(-1, 5, 5), (float("nan"), 5, 5)])
def test_invalid_counts_are_reported(row: tuple[float, float, float]) -> None:
    columns = {f"q_{name}": [10, row[i]] for i, name in enumerate(("smooth", "featured-or-disk", "artifact"))}
    with pytest.raises(InputError, match="1 galaxies have votes"):
        label_votes(pa.table({"object_id": [1, 2], **columns}), LabelConfig(table="galaxy-datasets", question="q"))


def test_counts_become_fractions_and_galaxies_without_votes_are_ambiguous() -> None:
    columns = {
        "smooth-or-featured-gz2_smooth": [30, 10, 0],
        "smooth-or-featured-gz2_featured-or-disk": [10, 29, 0],
        "smooth-or-featured-gz2_artifact": [0, 1, 0],
    }
    labels = label_votes(pa.table({"object_id": ["a", "b", "c"], **columns}), LabelConfig(table="galaxy-datasets"))
    assert labels.label.tolist() == [0, 1, AMBIGUOUS]
    assert labels.votes.tolist() == [[0.75, 0.25], [0.25, 0.725], [0.0, 0.0]]
    assert labels.shares()[2].tolist() == [0.5, 0.5]


def test_other_tables_by_column_names() -> None:
    config = LabelConfig(table="columns", columns={"round": "a", "disk": "b"}, other_columns=("c",), counts=True)
    labels = label_votes(pa.table({"object_id": [1, 2], "a": [8, 1], "b": [1, 3], "c": [1, 4]}), config)
    assert labels.classes == ("round", "disk")
    assert labels.label.tolist() == [0, AMBIGUOUS]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"columns": {"a": "x", "b": "y"}}, "not allowed otherwise"),
        ({"table": "columns"}, "required with"),
        ({"table": "columns", "columns": {"a": "x"}}, "at least two classes"),
        ({"table": "columns", "columns": {"A": "x", "b": "y"}}, "use a-z"),
    ],
)
def test_invalid_column_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LabelConfig(**settings)


@pytest.mark.parametrize("kind", ["fraction", "weighted_fraction", "debiased"])
@pytest.mark.parametrize("ending", ["csv.gz", "parquet", "fits"])
def test_published_table_of_galaxy_zoo_2(sky: Path, tmp_path: Path, kind: str, ending: str) -> None:
    source = sky / "catalogs" / "gz2_table5_stripe82_coadd2.csv.gz"
    frame = pd.read_csv(source)
    names = [
        f"t01_smooth_or_features_{a}_{kind}" for a in ("a01_smooth", "a02_features_or_disk", "a03_star_or_artifact")
    ]
    copy = source
    if ending == "parquet":
        copy = tmp_path / "t.parquet"
        frame[["objid", *names]].to_parquet(copy)
    elif ending == "fits":
        copy = tmp_path / "t.fits"
        Table.from_pandas(frame[["objid", *names]]).write(copy)
    config = TrainConfig(
        output_uri="unused",
        galaxies=ManifestConfig(uri=str(copy), id_column="objid", uri_template="{objid}.jpg"),
        labels=LabelConfig(table="gz2", votes=kind),  # type: ignore[arg-type]
    )
    galaxies, labels = read_galaxies(config)
    assert galaxies["object_id"].to_pylist() == frame["objid"].tolist()
    smooth, featured = frame[names[0]] >= 0.6, frame[names[1]] >= 0.6
    if kind != "debiased":
        assert labels.counts() == {
            "smooth": smooth.sum(), "featured": featured.sum(), "ambiguous": len(frame) - smooth.sum() - featured.sum(),
        }  # fmt: skip
    assert labels.counts()["ambiguous"] == (~smooth & ~featured).sum()


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
