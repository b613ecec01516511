"""Verdicts as labels: which galaxies they concern, what they replace, and that held-out galaxies never train."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.errors import InputError
from galaxy_batch.model.saved_model import load_checkpoint
from galaxy_batch.review_queue.queue import ReviewQueue, queue_schema, write_queue
from galaxy_batch.reviewed_objects import reviewed_schema
from galaxy_batch.settings import parse_config
from galaxy_batch.synthetic.survey import SurveyFiles, write_survey
from galaxy_batch.verdicts.table import rejected_schema, verdicts_schema, write_tables
from tests.support.training import train_config
from train.config import TrainConfig
from train.data.galaxies import load_part, read_galaxies
from train.data.labels import AMBIGUOUS, Labels
from train.data.splits import split_galaxies
from train.run import train_model

SMOOTH, FEATURED = 0, 1
REVIEW = ("release=dr1", "model=abc", "review")


@pytest.fixture(scope="module")
def voted(tmp_path_factory: pytest.TempPathFactory) -> SurveyFiles:
    return write_survey(tmp_path_factory.mktemp("voted"), galaxies=80, seed=21)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> SurveyFiles:
    """Galaxies that the table of votes does not have."""
    return write_survey(tmp_path_factory.mktemp("others"), galaxies=30, seed=5)


def reviewed_folder(
    root: Path, classes: dict[Any, str | None], queues: tuple[str, ...] = (), name: str = "verdicts", **columns: Any
) -> str:
    """A folder of merged verdicts, by one person each and sure unless the columns say otherwise."""
    folder = root.joinpath(*REVIEW, "verdicts", name)
    id_type = pa.string() if any(isinstance(one, str) for one in classes) else pa.int64()
    defaults = {"reviewed_probability": 1.0, "verdicts": 1, **columns}
    rows = [{"object_id": one, "reviewed_class": given, **defaults} for one, given in classes.items()]
    tables = verdicts_schema(id_type).empty_table(), pa.Table.from_pylist(rows, schema=reviewed_schema(id_type))
    write_tables(str(folder), *tables, rejected_schema().empty_table(), {"merge": "majority", "queues": list(queues)})
    return str(folder)


def queue_folder(root: Path, survey: SurveyFiles, ids: list[int], name: str = "first") -> str:
    """A queue whose pictures are the cutouts."""
    folder = root.joinpath(*REVIEW, name)
    rows = []
    for position, one in enumerate(ids, 1):
        picture = folder / "pictures" / "000" / f"{position:05d}.jpg"
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes((survey.images / f"{one}.jpg").read_bytes())
        path = f"pictures/000/{position:05d}.jpg"
        rows.append({"position": position, "object_id": one, "inclusion_probability": 1.0, "picture": path})
    record = {"name": name, "classes": ["smooth", "featured"], "verdicts": [], "rows": len(rows)}
    write_queue(
        ReviewQueue(str(folder), record, pa.Table.from_pylist(rows, queue_schema(pa.int64(), ["smooth", "featured"])))
    )
    return str(folder)


def config_with(voted: SurveyFiles, output: Path, *overrides: str, **verdicts: Any) -> TrainConfig:
    given = [f"verdicts.{name}={json.dumps(value)}" for name, value in verdicts.items()]
    return train_config(voted, output, *given, *overrides)


def ids_of(survey: SurveyFiles) -> list[int]:
    return pd.read_csv(survey.manifest)["object_id"].tolist()


def part_of(ids: list[int], config: TrainConfig, part: str) -> list[int]:
    rows = getattr(split_galaxies(pa.chunked_array([pa.array(ids)]), config.split), part)
    return [ids[row] for row in rows]


def by_id(galaxies: pa.Table, labels: Labels) -> dict[str, int]:
    return dict(zip(map(str, galaxies["object_id"].to_pylist()), labels.label.tolist(), strict=True))


def test_verdicts_replace_the_votes_of_training_galaxies_only(voted: SurveyFiles, tmp_path: Path) -> None:
    plain_config = train_config(voted, tmp_path)
    plain = by_id(*read_galaxies(plain_config))
    turned = {int(one): "featured" if label == SMOOTH else "smooth" for one, label in plain.items()}
    config = config_with(voted, tmp_path, uris=[reviewed_folder(tmp_path, turned)])
    galaxies, labels = read_galaxies(config)
    ids = galaxies["object_id"].to_pylist()
    train, held_out = (
        part_of(ids, config, "train"),
        {*part_of(ids, config, "test"), *part_of(ids, config, "calibration")},
    )
    after = by_id(galaxies, labels)
    assert AMBIGUOUS in {plain[str(one)] for one in train}, "a verdict labels ambiguous galaxies too"
    assert all(after[str(one)] == ("smooth", "featured").index(turned[one]) for one in train)
    assert all(after[str(one)] == plain[str(one)] for one in held_out)
    (origin,) = labels.verdicts
    assert origin["counts"] == {"held_out": len(held_out), "used": len(train)}
    assert labels.weights is not None
    assert set(labels.weights.tolist()) == {1.0}


def test_galaxies_of_a_queue_are_added_with_their_pictures(
    voted: SurveyFiles, others: SurveyFiles, tmp_path: Path
) -> None:
    new = ids_of(others)
    queue_folder(tmp_path, others, new[:25])
    uri = reviewed_folder(tmp_path, dict.fromkeys(new, "smooth"), queues=("first", "../../nowhere", "lost"))
    config = config_with(voted, tmp_path, 'labels.questions=["smooth_or_featured"]', uris=[uri], weight=3.0)
    galaxies, labels = read_galaxies(config)
    plain, plain_labels = read_galaxies(train_config(voted, tmp_path))
    added = set(galaxies["object_id"].to_pylist()) - set(plain["object_id"].to_pylist())
    train = part_of(new, config, "train")
    assert added == set(train) & set(new[:25])
    assert 0 < len(added) < len(train) < len(new)
    assert labels.verdicts[0]["counts"] == {
        "held_out": len(new) - len(train), "no_cutout": len(train) - len(added), "used": len(added),
    }  # fmt: skip
    assert by_id(plain, plain_labels).items() <= by_id(galaxies, labels).items()
    split = split_galaxies(galaxies["object_id"], config.split)
    rows = np.arange(len(plain), len(galaxies))
    assert set(rows.tolist()) <= set(split.train.tolist())
    part = load_part(config, galaxies, labels, split.train, learns=True)
    ours = np.isin(part.rows, rows)
    assert ours.sum() == len(added)
    assert part.examples.weights is not None
    assert part.examples.weights[ours].unique().tolist() == [3.0]
    assert part.examples.weights[~ours].unique().tolist() == [1.0]
    assert part.examples.targets[ours].tolist() == [[1.0, 0.0]] * len(added)
    assert not part.examples.question_counts[ours].any(), "nobody was asked about these"
    assert part.examples.question_counts[~ours].all(dim=1).any()
    assert load_part(config, galaxies, labels, split.test, learns=False).examples.weights is None


def test_pictures_stand_beside_cutouts_within_the_table(
    voted: SurveyFiles, others: SurveyFiles, tmp_path: Path
) -> None:
    votes = pd.read_csv(voted.votes)
    votes["image"] = [(voted.images / f"{one}.jpg").read_bytes() for one in votes["GalaxyID"]]
    votes.to_parquet(tmp_path / "votes.parquet")
    new = ids_of(others)
    uri = reviewed_folder(tmp_path, dict.fromkeys(new, "featured"))
    config = config_with(voted, tmp_path, uris=[uri], queue_uris=[queue_folder(tmp_path, others, new)])
    table = dataclasses.replace(
        config.galaxies, uri=str(tmp_path / "votes.parquet"), uri_template=None, image_column="image"
    )
    galaxies, labels = read_galaxies(dataclasses.replace(config, galaxies=table))
    split = split_galaxies(galaxies["object_id"], config.split)
    part = load_part(config, galaxies, labels, split.train, learns=True)
    assert len(galaxies) - len(votes) == len(part_of(new, config, "train")) == (part.rows >= len(votes)).sum()
    assert part.unusable == {}


def test_galaxies_of_the_table_without_votes(voted: SurveyFiles, tmp_path: Path) -> None:
    ids = ids_of(voted)
    pd.read_csv(voted.votes).iloc[:50].to_csv(tmp_path / "some.csv", index=False)
    values: dict[str, Any] = {
        "uri": str(voted.manifest), "id_column": "object_id", "uri_template": "images/{object_id}.jpg",
        "join": {"uri": str(tmp_path / "some.csv"), "id_column": "GalaxyID", "key_column": "object_id",
                 "columns": ["Class1.1", "Class1.2", "Class1.3"]},
    }  # fmt: skip
    base = train_config(voted, tmp_path)
    uri = reviewed_folder(tmp_path, dict.fromkeys(ids[50:], "smooth"))
    config = parse_config(TrainConfig, {"output_uri": str(tmp_path), "galaxies": values, "verdicts": {"uris": [uri]}})
    config = dataclasses.replace(config, network=base.network, split=base.split)
    galaxies, labels = read_galaxies(config)
    train = part_of(ids[50:], config, "train")
    assert galaxies["object_id"].to_pylist()[50:] == train
    assert labels.label[50:].tolist() == [SMOOTH] * len(train)
    part = load_part(config, galaxies, labels, split_galaxies(galaxies["object_id"], config.split).train, learns=True)
    assert (part.rows >= 50).sum() == len(train)


@pytest.mark.parametrize(
    ("columns", "settings", "problem"),
    [
        ({"reviewed_probability": 0.6}, {"min_probability": 0.7}, "uncertain"),
        ({"verdicts": 2}, {"min_verdicts": 3}, "few_verdicts"),
        ({"reviewed_class": None}, {}, "undecided"),
        ({"reviewed_class": "artifact"}, {}, "no_class"),
    ],
)
def test_verdicts_that_do_not_count(
    voted: SurveyFiles, tmp_path: Path, columns: dict[str, Any], settings: dict[str, Any], problem: str
) -> None:
    config = train_config(voted, tmp_path)
    plain, plain_labels = read_galaxies(config)
    train = part_of(plain["object_id"].to_pylist(), config, "train")
    uris = [
        reviewed_folder(tmp_path, dict.fromkeys(train[:4], "smooth"), **columns),
        reviewed_folder(tmp_path, {train[5]: "smooth"}, name="good", verdicts=9),
    ]
    galaxies, labels = read_galaxies(config_with(voted, tmp_path, uris=uris, **settings))
    assert [origin["counts"] for origin in labels.verdicts] == [{problem: 4}, {"used": 1}]
    before, after = by_id(plain, plain_labels), by_id(galaxies, labels)
    part = load_part(config, galaxies, labels, np.arange(len(galaxies)), learns=True)
    left_out = {str(galaxies["object_id"][row]) for row in range(len(galaxies))} - {
        str(galaxies["object_id"][int(row)]) for row in part.rows
    }
    assert all((str(one) in left_out) == (problem == "no_class" or before[str(one)] == AMBIGUOUS) for one in train[:4])
    assert {one for one in before if before[one] != after[one]} <= {*map(str, train[:4]), str(train[5])}
    votes = dataclasses.replace(config, fit=dataclasses.replace(config.fit, learn_from="votes"))
    from_votes = load_part(votes, galaxies, labels, np.arange(len(galaxies)), learns=True)
    assert len(from_votes.rows) == len(galaxies) - 4 * (problem == "no_class")


def test_a_merged_probability_is_a_target_of_votes(voted: SurveyFiles, tmp_path: Path) -> None:
    config = train_config(voted, tmp_path, "fit.learn_from=votes")
    plain, _ = read_galaxies(config)
    (one, *_) = part_of(plain["object_id"].to_pylist(), config, "train")
    first = reviewed_folder(tmp_path, {one: "smooth"}, name="first")
    second = reviewed_folder(tmp_path, {one: "featured"}, reviewed_probability=0.75)
    galaxies, labels = read_galaxies(config_with(voted, tmp_path, uris=[first, second]))
    assert [origin["counts"] for origin in labels.verdicts] == [{"in_a_later_table": 1}, {"used": 1}]
    row = galaxies["object_id"].to_pylist().index(one)
    part = load_part(config, galaxies, labels, np.array([row]), learns=True)
    assert part.examples.targets.tolist() == [[0.25, 0.75]]


def test_ids_that_are_text(voted: SurveyFiles, others: SurveyFiles, tmp_path: Path) -> None:
    new = ids_of(others)
    queue = queue_folder(tmp_path, others, new)
    table = pq.read_table(f"{queue}/queue.parquet")
    named = pa.array([f"J{one}" for one in table["object_id"].to_pylist()])
    pq.write_table(
        table.set_column(table.column_names.index("object_id"), "object_id", named), f"{queue}/queue.parquet"
    )
    verdicts = dict.fromkeys([*named.to_pylist(), *map(str, ids_of(voted))], "smooth")
    galaxies, labels = read_galaxies(
        config_with(voted, tmp_path, uris=[reviewed_folder(tmp_path, verdicts)], queue_uris=[queue])
    )
    train = split_galaxies(galaxies["object_id"], train_config(voted, tmp_path).split).train
    assert galaxies["object_id"].type == pa.string()
    assert (labels.label[train] == SMOOTH).all()
    assert labels.verdicts[0]["counts"]["used"] == len(train)


def test_what_cannot_train(voted: SurveyFiles, tmp_path: Path) -> None:
    ids = ids_of(voted)
    train = part_of(ids, train_config(voted, tmp_path), "train")
    test = part_of(ids, train_config(voted, tmp_path), "test")
    for folder, message in (
        (
            reviewed_folder(tmp_path, {train[0]: "spiral"}, name="other"),
            "has the class spiral; those of the labels are smooth",
        ),
        (reviewed_folder(tmp_path, dict.fromkeys(test, "smooth")), "none of these verdicts can train: {'held_out'"),
        (str(tmp_path), "holds no verdicts of jobs.import_verdicts"),
    ):
        with pytest.raises(InputError, match=message):
            read_galaxies(config_with(voted, tmp_path, uris=[folder]))
    good = reviewed_folder(tmp_path, {train[0]: "smooth"})
    with pytest.raises(InputError, match="there is no review queue"):
        read_galaxies(config_with(voted, tmp_path, uris=[good], queue_uris=[str(tmp_path)]))


def test_the_checkpoint_names_its_verdicts(voted: SurveyFiles, others: SurveyFiles, tmp_path: Path) -> None:
    new = ids_of(others)
    queue_folder(tmp_path, others, new)
    uri = reviewed_folder(tmp_path, dict.fromkeys(new, "smooth"), queues=("first",))
    config = config_with(voted, tmp_path / "run", uris=[uri], weight=2.0)
    summary = train_model(config)
    checkpoint, _ = load_checkpoint(summary["checkpoint_uri"])
    entry = checkpoint.training["verdicts"]
    used = len(part_of(new, config, "train"))
    assert (entry["weight"], entry["min_probability"], entry["min_verdicts"]) == (2.0, 0.5, 1)
    (table,) = entry["tables"]
    assert table["uri"] == "release=dr1/model=abc/review/verdicts/verdicts/reviewed.parquet"
    assert (table["merge"], table["objects"]) == ("majority", len(new))
    assert len(table["sha256"]) == 64
    assert table["counts"] == {"held_out": len(new) - used, "used": used}
    assert summary["verdicts"] == [table]
    assert str(tmp_path) not in json.dumps(checkpoint.training)
    galaxies, labels = read_galaxies(train_config(voted, tmp_path))
    for part, galaxies_of_part in checkpoint.training["galaxies_per_split"].items():
        rows = getattr(split_galaxies(galaxies["object_id"], config.split), part)
        labelled = int((labels.label[rows] != AMBIGUOUS).sum())
        assert galaxies_of_part == labelled + (used if part == "train" else 0)
