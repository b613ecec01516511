"""The whole pipeline, on the simulated survey with every kind of defect."""

import dataclasses
import gc
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch

from galaxy_batch.catalog.layout import fingerprint
from galaxy_batch.catalog.manifest import unpublish
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.config import PublishConfig, ReportConfig, fingerprint_settings
from galaxy_batch.errors import GateError, InputError
from galaxy_batch.model.saved_model import load_checkpoint, save_checkpoint
from galaxy_batch.pipeline import classify_release
from galaxy_batch.plan import plan_release
from galaxy_batch.rows import ReviewFlag
from galaxy_batch.synthetic.survey import SurveyFiles
from tests.support.configs import FinishedRelease, catalog_config
from tests.support.documents import PACKAGE_README, blocks, section
from tests.support.models import SavedModel, save_random_model, with_embedding
from tests.support.skies import read_catalog
from train.evaluate.familiarity import measure_familiarity

pytestmark = pytest.mark.usefixtures("ray_started")


def read(summary: dict[str, Any]) -> pd.DataFrame:
    return read_catalog(summary["catalog_uri"]).to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)


def classified_by_the_readme(survey: SurveyFiles, saved_model: SavedModel) -> pa.Table:
    """The table that the README's lines for a notebook give, of another manifest and checkpoint."""
    (code,) = blocks("python", section("In a notebook", PACKAGE_README))
    names: dict[str, Any] = {}
    exec(code.replace('"objects.csv"', f'"{survey.manifest}", "{saved_model.uri}"'), names)
    table: pa.Table = names["table"]
    return table


def check_classified_here(rows: pa.Table, catalog: pd.DataFrame) -> None:
    """`galaxy_batch.classify` gives the rows of the catalog, without the columns of a release."""
    frame = rows.to_pandas(integer_object_nulls=True).set_index("object_id")
    assert set(catalog.columns) - set(frame.columns) == {"release", "model_id"}
    frame = frame.loc[catalog.index]
    for name in ("predicted_class", "review_flags", "needs_review", "status", "error"):
        assert frame[name].fillna("").tolist() == catalog[name].fillna("").tolist(), name
    np.testing.assert_allclose(frame["confidence"].astype(float), catalog["confidence"].astype(float), atol=1e-4)


def test_every_row_is_published_once_and_its_defect_is_flagged(
    survey: SurveyFiles, saved_model: SavedModel, first_release: FinishedRelease
) -> None:
    summary = first_release.summary
    catalog = read(summary).set_index("object_id")
    check_classified_here(classified_by_the_readme(survey, saved_model), catalog)
    wanted = pd.read_csv(survey.manifest)
    assert sorted(catalog.index) == sorted(wanted["object_id"])
    assert min(catalog.index) > 2**53
    expected = {
        "truncated": ("unreadable", ReviewFlag.UNREADABLE),
        "empty": ("unreadable", ReviewFlag.UNREADABLE),
        "text": ("unreadable", ReviewFlag.UNREADABLE),
        "black": ("ok", ReviewFlag.BLANK),
        "server_message": ("ok", ReviewFlag.BLANK),
        "missing": ("missing", ReviewFlag.UNREADABLE),
        "placeholder": ("ok", ReviewFlag.REPEATED_IMAGE),
    }
    for object_id, defect in survey.defects.items():
        status, flag = expected[defect]
        assert catalog.loc[object_id, "status"] == status, defect
        assert catalog.loc[object_id, "review_flags"] & flag, defect
    good = catalog.drop(list(survey.defects))
    assert (good["status"] == "ok").all()
    about_images = ReviewFlag.UNREADABLE | ReviewFlag.BLANK | ReviewFlag.REPEATED_IMAGE
    assert not (good["review_flags"] & int(about_images)).any()
    assert (catalog["review_flags"] & int(ReviewFlag.NO_POSITION)).astype(bool).sum() == 3
    assert catalog["ra"].isna().sum() == catalog["_healpix_29"].isna().sum() == 3
    assert (summary["rows"], summary["failed"], summary["status_counts"]["missing"]) == (40, 4, 1)
    assert summary["flag_counts"]["REPEATED_IMAGE"] == 6
    assert verify_catalog(summary["catalog_uri"]) == []


def test_embeddings_are_published_beside_the_rows_also_by_a_resumed_run(
    survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path
) -> None:
    model = with_embedding(saved_model, tmp_path / "model.safetensors", 5)
    config = catalog_config(survey, model, tmp_path / "out", classify={"chunk_rows": 7, "embedding": 4})
    without = catalog_config(survey, model, tmp_path / "out")
    plan = plan_release(config)
    assert plan.layout.fingerprint != plan_release(without).layout.fingerprint
    assert plan_release(without).layout.fingerprint == fingerprint(
        plan.manifest.content_id,
        plan.checkpoint.checkpoint_id,
        {
            "classify": {n: v if n != "rgb" else {k: x for k, x in v.items() if k != "jpeg_quality"}
                         for n, v in dataclasses.asdict(plan_release(without).config.classify).items()
                         if n not in ("embedding", "concentrations")},
            "review": dataclasses.asdict(without.review),
        },
    )  # fmt: skip
    catalog = Path(classify_release(plan)["catalog_uri"])
    assert verify_catalog(str(catalog)) == []
    rows = read_catalog(catalog)
    assert "_embedding" not in rows.column_names
    before = {file.relative_to(catalog): file.read_bytes() for file in catalog.glob("embedding/**/*.pq")}
    tables = [pq.read_table(file, partitioning=None) for file in catalog.glob("embedding/**/*.pq")]
    embeddings = pa.concat_tables(tables).sort_by("object_id")
    assert embeddings["object_id"].equals(rows["object_id"])
    assert embeddings["embedding"].is_valid().equals(rows["predicted_class"].is_valid())
    assert embeddings.schema.field("embedding").type.list_size == 4
    unpublish(str(catalog))
    for part in sorted(Path(plan.layout.parts).glob("*.parquet"))[1:3]:
        part.unlink()
    resumed = plan_release(config)
    assert len(resumed.todo) == 2
    classify_release(resumed)
    assert {file.relative_to(catalog): file.read_bytes() for file in catalog.glob("embedding/**/*.pq")} == before


def test_a_finished_run_is_not_repeated(first_release: FinishedRelease, tmp_path: Path) -> None:
    config = first_release.copy(tmp_path)
    first = {
        key: value.replace(first_release.config.output_uri, str(tmp_path)) if isinstance(value, str) else value
        for key, value in first_release.summary.items()
    }
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    second = classify_release(plan_release(config))
    assert second["already_published"]
    assert second["computed_rows"] == 0
    assert first["step_seconds"].keys() == {"classify", "publish", "verify", "report"}
    work = {
        "seconds": 0,
        "already_published": False,
        "computed_rows": 40,
        "steady_rate_per_s": None,
        "step_seconds": {},
    }
    assert {**second, **work} == {**first, **work}
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    plan = plan_release(config)
    left = Path(plan.layout.sorted_runs) / "rows-000000.arrow"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"left by a run that stopped after publishing")
    assert classify_release(plan)["already_published"]
    assert not left.parent.parent.exists()


def test_a_catalog_without_a_collection_stays_valid_and_gets_one_when_it_is_published_again(
    first_release: FinishedRelease, tmp_path: Path
) -> None:
    config = first_release.copy(tmp_path)
    root = Path(plan_release(config).layout.root)
    beside = {"collection.properties", "margin_10arcs", "index_object_id"}
    assert {path.name for path in root.iterdir()} > beside
    unpublish(str(root / "catalog"))
    classify_release(plan_release(dataclasses.replace(config, publish=PublishConfig(margin_arcsec=0, index=False))))
    assert not {path.name for path in root.iterdir()} & beside
    assert classify_release(plan_release(config))["already_published"]
    (root / "catalog" / "manifest.json").unlink()
    again = classify_release(plan_release(config))
    assert again["computed_rows"] == 0
    assert {path.name for path in root.iterdir()} > beside
    assert verify_catalog(again["catalog_uri"]) == []


def test_a_stopped_run_continues(first_release: FinishedRelease, tmp_path: Path) -> None:
    config = first_release.copy(tmp_path)
    plan = plan_release(config)
    parts = sorted(Path(plan.layout.parts).glob("part-*.parquet"))
    kept = {path: path.stat().st_mtime_ns for path in parts[2:]}
    for path in [*parts[:2], Path(plan.layout.catalog) / "manifest.json"]:
        path.unlink()
    (Path(plan.layout.parts) / ".tmp-part-000001.parquet-1").write_bytes(b"half a part")
    again = classify_release(plan_release(config))
    assert again["computed_rows"] == 14
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert (
        read(again)
        .sort_values("object_id")
        .reset_index(drop=True)
        .equals(read(first_release.summary).sort_values("object_id").reset_index(drop=True))
    )
    assert verify_catalog(again["catalog_uri"]) == []


def test_the_release_page_is_written_beside_the_catalog(
    first_release: FinishedRelease, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = first_release.copy(tmp_path)
    config = dataclasses.replace(silent, report=ReportConfig())
    unpublish(plan_release(config).layout.catalog)

    def no_page(*_: object) -> str:
        raise RuntimeError("no page today")

    with monkeypatch.context() as patched:
        patched.setattr("galaxy_batch.release_page.page.write_release_page", no_page)
        assert classify_release(plan_release(config))["report_uri"] is None  # and the catalog is published
    assert classify_release(plan_release(silent))["report_uri"] is None
    summary = classify_release(plan_release(config))
    assert summary["already_published"]
    page = Path(summary["report_uri"])
    assert page == Path(plan_release(config).layout.report) / "index.html"
    assert "REPEATED_IMAGE" in page.read_text()
    assert page.read_text().count("<img ") > 8
    assert verify_catalog(summary["catalog_uri"]) == []
    unpublish(plan_release(config).layout.catalog)
    assert classify_release(plan_release(silent))["computed_rows"] == 0  # published again, from the same parts
    assert not page.exists()  # it described the catalog that was removed


def test_too_many_failures_publish_nothing_and_keep_the_parts(first_release: FinishedRelease, tmp_path: Path) -> None:
    strict = dataclasses.replace(first_release.copy(tmp_path), max_failed_fraction=0.09)
    for record in [plan_release(strict).layout.catalog, *tmp_path.rglob("runs")]:
        shutil.rmtree(record)
    with pytest.raises(GateError, match=r"4 of 40 cutouts have no class \(3 unreadable, 1 missing\)") as caught:
        classify_release(plan_release(strict))
    assert caught.value.summary["catalog_uri"] is None
    assert (caught.value.summary["rows"], caught.value.summary["failed"]) == (40, 4)
    assert len(list(Path(caught.value.summary["parts_uri"]).glob("part-*"))) == 6
    assert not list(tmp_path.rglob("manifest.json"))
    run = json.loads(next(iter(tmp_path.rglob("runs/*.json"))).read_text())
    assert (run["state"], run["error"]) == ("failed", "GateError")
    relaxed = classify_release(plan_release(dataclasses.replace(strict, max_failed_fraction=0.1)))
    assert relaxed["computed_rows"] == 0
    assert relaxed["rows"] == 40


def test_cutouts_that_were_missing_are_looked_for_by_each_run_until_the_catalog_is_published(
    survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path
) -> None:
    folder = tmp_path / "survey"
    folder.mkdir()
    shutil.copy(survey.manifest, folder)
    moved = dataclasses.replace(survey, manifest=folder / survey.manifest.name, images=folder / "images")
    config = catalog_config(moved, saved_model, tmp_path / "out")
    example = r"40 of 40 .*\(40 missing\).*; for example object \d+ at .*/survey/images/\d+\.jpg: no such file"
    for computed in (40, 0):
        with pytest.raises(GateError, match=example) as caught:
            classify_release(plan_release(config))
        assert caught.value.summary["computed_rows"] == computed
        assert not list((tmp_path / "out").rglob("exchange"))
    shutil.copytree(survey.images, moved.images)
    summary = classify_release(plan_release(config))
    assert (summary["computed_rows"], summary["status_counts"]["missing"]) == (40, 1)
    assert verify_catalog(summary["catalog_uri"]) == []
    (late,) = [object_id for object_id, defect in survey.defects.items() if defect == "missing"]
    shutil.copy(next(moved.images.iterdir()), moved.images / f"{late}.jpg")
    assert classify_release(plan_release(config))["already_published"]
    unpublish(plan_release(config).layout.catalog)
    again = classify_release(plan_release(config))
    assert 0 < again["computed_rows"] <= 7
    assert "missing" not in again["status_counts"]
    assert verify_catalog(again["catalog_uri"]) == []


def test_unreachable_cutouts_are_fetched_again_by_the_next_run(
    survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path
) -> None:
    folder = tmp_path / "survey"
    shutil.copytree(survey.manifest.parent, folder)
    moved = dataclasses.replace(survey, manifest=folder / survey.manifest.name, images=folder / "images")
    file = moved.images / f"{pd.read_csv(survey.manifest)['object_id'][10]}.jpg"  # of the second chunk
    content = file.read_bytes()
    file.unlink()
    file.symlink_to("/proc/self/mem")  # reading it is an input/output error, as on a failing disk
    config = catalog_config(moved, saved_model, tmp_path / "out")
    with pytest.raises(GateError, match=r"5 of 40 .*1 unreachable.*, and keep_unreachable = false") as caught:
        classify_release(plan_release(config))
    assert (caught.value.summary["catalog_uri"], caught.value.summary["failed"]) == (None, 5)
    kept = plan_release(dataclasses.replace(config, keep_unreachable=True))
    assert kept.todo == ()
    summary = classify_release(kept)
    assert summary["status_counts"]["unreachable"] == 1
    assert verify_catalog(summary["catalog_uri"]) == []

    file.unlink()
    file.write_bytes(content)
    (Path(kept.layout.catalog) / "manifest.json").unlink()
    again = classify_release(plan_release(config))
    assert (again["computed_rows"], again["failed"]) == (7, 4)
    assert "unreachable" not in again["status_counts"]
    assert verify_catalog(again["catalog_uri"]) == []


def test_other_settings_replace_a_catalog_only_with_overwrite(
    survey: SurveyFiles, saved_model: SavedModel, first_release: FinishedRelease, tmp_path: Path
) -> None:
    first_release.copy(tmp_path)
    changed = catalog_config(survey, saved_model, tmp_path, review={"min_confidence": 0.99})
    with pytest.raises(InputError, match="set overwrite = true"):
        plan_release(changed)
    summary = classify_release(plan_release(dataclasses.replace(changed, overwrite=True)))
    assert summary["flag_counts"]["LOW_CONFIDENCE"] == 36
    assert verify_catalog(summary["catalog_uri"]) == []


@pytest.fixture
def ended_actors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """After a run that fails: its error refers to its actors, whose CPUs the next run in this Ray needs."""
    yield
    caplog.get_records("call").clear()  # Ray logs the error, and pytest keeps the records
    gc.collect()


@pytest.mark.usefixtures("ended_actors")
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_model_that_does_not_fit_its_description_is_bad_input(
    survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path, engine: str
) -> None:
    """Only the workers build the model."""
    with safetensors.safe_open(saved_model.uri, "pt") as file:
        about = file.metadata()
    tensors = safetensors.torch.load_file(saved_model.uri)
    uri = str(tmp_path / "model.safetensors")
    safetensors.torch.save_file({**tensors, "classifier.bias": torch.zeros(3)}, uri, about)
    runtime = {"actors": 1, "engine": engine}
    plan = plan_release(catalog_config(survey, SavedModel(uri, saved_model.checkpoint), tmp_path, runtime=runtime))
    with pytest.raises(InputError, match=r"checkpoint_uri.*do not fit") as caught:
        classify_release(plan)
    assert type(caught.value) is InputError


def test_unfamiliar_and_unstable_rows_are_flagged(survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path) -> None:
    checkpoint, model = load_checkpoint(saved_model.uri)
    pixels = torch.randint(0, 60, (40, 3, 64, 64), dtype=torch.uint8)
    model.familiarity = measure_familiarity(model, pixels, torch.device("cpu"), 0)
    uri = str(tmp_path / "model.safetensors")
    knowing = save_checkpoint(uri, dataclasses.replace(checkpoint, max_unfamiliarity=1e9, max_instability=0.0), model)
    settings: dict[str, Any] = {"classify": {"chunk_rows": 7, "stability_views": 2}, "review": {"max_unfamiliarity": 2}}
    plan = plan_release(catalog_config(survey, SavedModel(uri, knowing), tmp_path, **settings))
    limits = plan.review_limits
    assert (limits.min_confidence, limits.max_unfamiliarity, limits.max_instability) == (0.6, 2.0, 0.0)
    summary = classify_release(plan)
    catalog = read(summary)
    unfamiliar = (catalog["review_flags"] & int(ReviewFlag.UNFAMILIAR)).astype(bool)
    unstable = (catalog["review_flags"] & int(ReviewFlag.UNSTABLE)).astype(bool)
    assert (unfamiliar == (catalog["unfamiliarity"] > 2)).all()
    assert (unstable == (catalog["instability"] > 0)).all()
    assert 0 < unfamiliar.sum() == summary["flag_counts"]["UNFAMILIAR"]
    assert 0 < unstable.sum() == summary["flag_counts"]["UNSTABLE"]
    assert (catalog["unfamiliarity"].isna() == (catalog["status"] != "ok")).all()
    assert (catalog["instability"].isna() == (catalog["status"] != "ok")).all()


def test_models_never_mix(survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path) -> None:
    other = save_random_model(tmp_path / "other.safetensors", seed=99)
    first = plan_release(catalog_config(survey, saved_model, tmp_path))
    second = plan_release(catalog_config(survey, other, tmp_path))
    assert first.layout.root != second.layout.root
    assert first.layout.fingerprint != second.layout.fingerprint


def test_images_in_parquet_give_the_same_catalog_as_files(
    survey: SurveyFiles, saved_model: SavedModel, first_release: FinishedRelease, tmp_path: Path
) -> None:
    """With torch as with the engine of the first release."""
    objects = pd.read_csv(survey.manifest, dtype={"object_id": "int64"})
    files = [survey.images / f"{i}.jpg" for i in objects["object_id"]]
    contents = [f.read_bytes() if f.exists() else None for f in files]
    table = pa.table({**{c: pa.array(objects[c]) for c in objects}, "image": pa.array(contents, pa.binary())})
    pq.write_table(table, tmp_path / "packed.parquet", row_group_size=9)
    runtime = {"actors": 1, "engine": "torch"}
    packed = catalog_config(survey, saved_model, tmp_path / "a", runtime=runtime, manifest={
        "uri": str(tmp_path / "packed.parquet"), "ra_column": "ra", "dec_column": "dec", "image_column": "image",
    })  # fmt: skip
    a = read(classify_release(plan_release(packed))).sort_values("object_id").reset_index(drop=True)
    b = read(first_release.summary)
    b = b.sort_values("object_id").reset_index(drop=True)
    same = [c for c in a.columns if c not in ("p_smooth", "p_featured", "confidence", "error")]
    assert a[same].equals(b[same])
    assert np.allclose(a["p_smooth"], b["p_smooth"], atol=1e-5, equal_nan=True)


def test_text_ids_and_kept_columns(survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path) -> None:
    objects = pd.read_csv(survey.manifest, dtype={"object_id": str})
    table = pa.table({
        "name": ["J" + i for i in objects["object_id"]],
        "file": [f"images/{i}.jpg" for i in objects["object_id"]],
        "z": pa.array(np.linspace(0, 0.2, len(objects)), pa.float32()),
    })  # fmt: skip
    manifest = survey.manifest.parent / "named.parquet"
    pq.write_table(table, manifest)
    config = catalog_config(survey, saved_model, tmp_path, manifest={
        "uri": str(manifest), "id_column": "name", "image_column": "file", "keep_columns": ["z"],
    })  # fmt: skip
    plan = plan_release(config)
    summary = classify_release(plan)
    catalog = read_catalog(summary["catalog_uri"]).to_pandas()
    assert sorted(catalog["object_id"]) == sorted(table["name"].to_pylist())
    assert catalog.set_index("object_id")["z"].to_dict() == dict(
        zip(table["name"].to_pylist(), table["z"].to_pylist(), strict=True)
    )
    assert catalog["ra"].isna().all()
    assert not (catalog["review_flags"] & int(ReviewFlag.NO_POSITION)).any()
    assert catalog["needs_review"].sum() == (catalog["review_flags"] != 0).sum() == summary["flagged"]
    published = Path(plan.layout.catalog) / "manifest.json"
    classify = fingerprint_settings(dataclasses.asdict(plan.config.classify))
    settings = {"classify": classify, "review": dataclasses.asdict(plan.config.review)}
    older = fingerprint(plan.manifest.content_id, plan.checkpoint.checkpoint_id, settings)
    assert older != plan.layout.fingerprint
    published.write_text(published.read_text().replace(plan.layout.fingerprint, older))
    assert plan_release(config).published is not None  # an older version made it from the same input and settings
