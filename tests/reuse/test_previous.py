"""Which catalogs can be reused, and how the refusal of the others is explained."""

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from galaxy_batch.config import CatalogConfig
from galaxy_batch.errors import InputError
from galaxy_batch.reuse.previous import open_previous, prediction_settings, verify_previous
from galaxy_batch.rows import question_columns
from galaxy_batch.settings import parse_config
from tests.support.skies import MODEL_ID, VERSIONS, publish_rows, sky_rows
from tests.support.votes import FEW_QUESTIONS, with_votes


def config(reuse_from: Path | str, **settings: Any) -> CatalogConfig:
    values = {
        "release": "two", "output_uri": "out", "checkpoint_uri": "model.safetensors", "reuse_from": str(reuse_from),
        "manifest": {"uri": "objects.csv", "uri_template": "{object_id}.jpg"}, "classify": {"precision": "fp32"},
    }  # fmt: skip
    return parse_config(CatalogConfig, {**values, **settings})


def rewrite(catalog: Path, **entries: Any) -> None:
    file = catalog / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """A catalog whose manifest has the config and versions of a pipeline run."""
    published = publish_rows(tmp_path / "previous", sky_rows(60, seed=3))
    settings = dataclasses.asdict(config("x"))
    settings["review"] |= {"audit_fraction": 0.05}
    rewrite(published, config=settings, versions=VERSIONS)
    return published


def problem(reuse_from: Path | str, model_id: str = MODEL_ID, ids: pa.DataType = pa.int64(), **settings: Any) -> str:  # noqa: B008
    with pytest.raises(InputError) as caught:
        open_previous(config(reuse_from, **settings), model_id, ids)
    assert caught.value.field == "reuse_from"
    return str(caught.value)


def test_a_catalog_by_the_same_model_and_settings(catalog: Path, caplog: pytest.LogCaptureFixture) -> None:
    previous = open_previous(config(catalog), MODEL_ID, pa.int64())
    assert (previous.rows, previous.predictions, len(previous.files)) == (
        60,
        ("p_smooth", "p_featured", "unfamiliarity", "instability"),
        len(list(catalog.rglob("*.parquet"))),
    )
    with caplog.at_level(logging.WARNING):
        verify_previous(previous, VERSIONS)
        assert not caplog.records
        verify_previous(previous, {**VERSIONS, "torch": "9.9"})
    assert "reuse_from was made with torch 2." in caplog.text


def test_settings_that_change_no_prediction_may_differ(catalog: Path) -> None:
    previous = open_previous(
        config(
            catalog, classify={"precision": "fp32", "chunk_rows": 3}, max_failed_fraction=0.9,
            review={"min_confidence": 0.9, "min_repeats": 7, "audit_fraction": 0.5, "audit_seed": 4},
            runtime={"actors": 1}, publish={"max_rows": 7},
        ),
        MODEL_ID, pa.int64(),
    )  # fmt: skip
    assert previous.rows == 60


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"classify": {"precision": "bf16"}}, "classify.precision = fp32 there, bf16 here"),
        (
            {"classify": {"precision": "fp32", "max_image_bytes": 5000}},
            "classify.max_image_bytes = 20971520 there, 5000",
        ),
        ({"classify": {"precision": "fp32", "max_image_pixels": 5000}}, "classify.max_image_pixels"),
        ({"classify": {"precision": "fp32", "rgb": {"q": 7.0}}}, "classify.rgb.q = 6.0 there, 7.0 here"),
        ({"classify": {"precision": "fp32", "rgb": {"planes": [2, 1, 0]}}}, "classify.rgb.planes"),
        (
            {"classify": {"precision": "fp32", "concentrations": True}},
            "classify.concentrations = None there, True here",
        ),
        ({"review": {"max_blank_fraction": 0.8}}, "review.max_blank_fraction = 0.9 there, 0.8 here"),
    ],
)
def test_settings_that_change_a_prediction_are_named(catalog: Path, settings: dict[str, Any], named: str) -> None:
    message = problem(catalog, **settings)
    assert named in message
    assert message.count(" there, ") == 1
    assert "leave reuse_from out" in message


def test_every_setting_of_classify_but_one_counts() -> None:
    names = prediction_settings(dataclasses.asdict(config("x", classify={"concentrations": True, "embedding": 4})))
    fields = {f"classify.{f.name}" for f in dataclasses.fields(config("x").classify)}
    assert fields - {name.rpartition(".")[0] if ".rgb." in name else name for name in names} == {"classify.chunk_rows"}


def test_another_model_is_explained(catalog: Path) -> None:
    message = problem(catalog, model_id="fedcba9876543210")
    assert f"was made with model {MODEL_ID}, but checkpoint_uri is fedcba9876543210" in message
    assert "leave reuse_from out" in message


def test_other_ids_are_explained(catalog: Path) -> None:
    assert "has ids of type int64, but the manifest has string" in problem(catalog, ids=pa.string())


def test_a_uri_without_a_catalog_is_explained(catalog: Path, tmp_path: Path) -> None:
    assert "no catalog is published there: no manifest.json" in problem(tmp_path)
    assert "no catalog is published there" in problem("memory://nowhere/at?token=secret")
    assert "secret" not in problem("memory://nowhere/at?token=secret")
    rewrite(catalog, format=1)
    assert "its format is 1; this version reads format 2" in problem(catalog)
    (catalog / "manifest.json").write_text("{")
    assert "manifest.json: is damaged" in problem(catalog)


@pytest.mark.parametrize("damage", ["flipped", "gone", "stray", "counts"])
def test_a_catalog_that_does_not_verify_is_not_reused(catalog: Path, damage: str) -> None:
    file = sorted(catalog.rglob("Npix=*.parquet"))[0]
    if damage == "flipped":
        content = bytearray(file.read_bytes())
        content[60] ^= 4
        file.write_bytes(content)
    elif damage == "gone":
        file.unlink()
    elif damage == "stray":
        (catalog / "dataset" / "more.parquet").write_bytes(b"")
    else:
        rewrite(catalog, rows=61)
    previous = open_previous(config(catalog), MODEL_ID, pa.int64())
    with pytest.raises(InputError, match=r"reuse_from = .* does not verify, so nothing is reused"):
        verify_previous(previous, VERSIONS)


def test_the_columns_of_the_questions_are_predictions_too(tmp_path: Path) -> None:
    rows = with_votes(sky_rows(60, seed=3), concentrations=True)
    published = publish_rows(tmp_path / "previous", rows)
    settings = dataclasses.asdict(config("x", classify={"precision": "fp32", "concentrations": True}))
    settings["review"] |= {"audit_fraction": 0.05}
    rewrite(published, config=settings, versions=VERSIONS)
    again = config(published, classify={"precision": "fp32", "concentrations": True})
    previous = open_previous(again, MODEL_ID, pa.int64())
    votes = [column.name for column in question_columns(FEW_QUESTIONS, concentrations=True)]
    assert previous.predictions == ("p_smooth", "p_featured", "unfamiliarity", "instability", *votes)
    assert open_previous(config(published), MODEL_ID, pa.int64()) == previous  # more columns than are needed
