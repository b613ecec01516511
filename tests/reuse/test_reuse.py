"""A release that reuses predictions is equal to the one that a full run makes."""

import dataclasses
import io
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import galaxy_batch
from galaxy_batch.catalog.manifest import require_manifest, unpublish
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.config import CatalogConfig
from galaxy_batch.errors import InputError
from galaxy_batch.pipeline import classify_release
from galaxy_batch.plan import plan_release
from galaxy_batch.reuse.join import join_previous
from galaxy_batch.reuse.previous import open_previous, verify_previous
from galaxy_batch.rows import ReviewFlag, question_columns
from galaxy_batch.settings import parse_config
from galaxy_batch.synthetic.rendering import render
from galaxy_batch.synthetic.survey import SurveyFiles
from tests.support.configs import FinishedRelease, catalog_config
from tests.support.models import SavedModel, save_random_model, with_embedding
from tests.support.s3_server import S3
from tests.support.skies import VERSIONS, read_catalog, run_in_order
from tests.support.votes import FEW_QUESTIONS


def same_in_every_bit(a: str, b: str) -> None:
    """Both catalogs have the same rows, and the same files but for their date and provenance."""
    left, right = read_catalog(a), read_catalog(b)
    assert left.column_names == right.column_names
    for name in left.column_names:
        one, other = left[name].combine_chunks(), right[name].combine_chunks()
        if pa.types.is_floating(one.type):
            assert one.is_null().equals(other.is_null()), name
            kind = f"u{one.type.bit_width // 8}"
            assert np.array_equal(one.fill_null(0).to_numpy().view(kind), other.fill_null(0).to_numpy().view(kind)), (
                name
            )
        assert one.equals(other), name
    files = [{file.path: file.sha256 for file in require_manifest(uri).files} for uri in (a, b)]
    assert files[0] == files[1]


def counts(summary: dict[str, Any]) -> tuple[int, ...]:
    """Reused, recomputed, new, vanished, not compared."""
    names = ("reused", "recomputed", "new", "vanished", "not_compared")
    return tuple(summary["reuse"][name] for name in names)


@dataclasses.dataclass(frozen=True)
class Release:
    """A survey folder of the next release."""

    folder: Path
    manifest: dict[str, Any]
    changed: int
    repaired: int
    moved: int
    new: int


@pytest.fixture(scope="module")
def previous_uri(first_release: FinishedRelease) -> str:
    """The catalog of the first release."""
    uri: str = first_release.summary["catalog_uri"]
    return uri


@pytest.fixture(scope="module")
def release(survey: SurveyFiles, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The next release: in another order, with a column more, one object gone, and one of each kind of change."""
    folder = tmp_path_factory.mktemp("next")
    shutil.copytree(survey.images, folder / "images")
    objects = pd.read_csv(survey.manifest, dtype={"object_id": "int64"})
    placed = objects.index[objects["ra"].notna()]
    good = [i for i in objects["object_id"][placed] if i not in survey.defects]
    changed, moved, lost, gone = (int(i) for i in good[:4])
    repaired = next(i for i, defect in survey.defects.items() if defect == "truncated")
    new = int(objects["object_id"].max()) + 1
    for object_id, number in ((changed, 900), (repaired, 901), (new, 902)):
        (folder / "images" / f"{object_id}.jpg").write_bytes(render(number, seed=11))
    objects.loc[objects["object_id"] == moved, ["ra", "dec"]] = [123.25, -45.5]
    objects.loc[objects["object_id"] == lost, ["ra", "dec"]] = np.nan
    objects = objects[objects["object_id"] != gone]
    added = pd.DataFrame({"object_id": [new], "ra": [10.0], "dec": [20.0]})
    objects = pd.concat([objects, added]).sample(frac=1, random_state=5)
    objects["petro_r"] = np.linspace(14, 18, len(objects))
    pq.write_table(pa.Table.from_pandas(objects, preserve_index=False), folder / "objects.parquet", row_group_size=11)
    manifest = {
        "uri": str(folder / "objects.parquet"), "ra_column": "ra", "dec_column": "dec",
        "uri_template": "images/{object_id}.jpg", "keep_columns": ["petro_r"],
    }  # fmt: skip
    return Release(folder, manifest, changed, repaired, moved, new)


def next_config(
    release: Release, survey: SurveyFiles, model: SavedModel, output: Path, **settings: Any
) -> CatalogConfig:
    return catalog_config(survey, model, output, release="two", manifest=release.manifest, **settings)


@pytest.fixture(scope="module")
def full(
    release: Release, survey: SurveyFiles, saved_model: SavedModel, tmp_path_factory: pytest.TempPathFactory,
    ray_started: None,
) -> tuple[CatalogConfig, dict[str, Any]]:  # fmt: skip
    """The next release, all of it computed; its config and summary."""
    config = next_config(release, survey, saved_model, tmp_path_factory.mktemp("full"))
    return config, classify_release(plan_release(config))


def test_reused_predictions_equal_computed_ones(
    release: Release, survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path, previous_uri: str,
    full: tuple[CatalogConfig, dict[str, Any]],
) -> None:  # fmt: skip
    config = next_config(release, survey, saved_model, tmp_path, reuse_from=previous_uri, classify={"chunk_rows": 9})
    plan = plan_release(config)
    summary = classify_release(plan)
    # Of 40 objects one is gone; of the others one is new, one changed, one repaired, and three have no class still.
    assert counts(summary) == (40 - 1 - 2 - 3, 2 + 3, 1, 1, 0)
    assert summary["step_seconds"].keys() == {"reuse", "classify", "publish", "verify", "report"}
    published = require_manifest(summary["catalog_uri"])
    assert published.reuse == summary["reuse"]
    assert summary["reuse"]["catalog_uri"] == published.config["reuse_from"] == previous_uri
    same_in_every_bit(summary["catalog_uri"], full[1]["catalog_uri"])
    assert verify_catalog(summary["catalog_uri"]) == []
    assert not (Path(plan.layout.root) / "earlier").exists() or not list((Path(plan.layout.root) / "earlier").iterdir())

    before = read_catalog(previous_uri).to_pandas().set_index("object_id")
    after = read_catalog(summary["catalog_uri"]).to_pandas().set_index("object_id")
    assert set(after["release"]) == {"two"}
    assert before.loc[release.changed, "p_smooth"] != after.loc[release.changed, "p_smooth"]
    assert (before.loc[release.repaired, "status"], after.loc[release.repaired, "status"]) == ("unreadable", "ok")
    assert (after.loc[release.moved, "ra"], after.loc[release.moved, "dec"]) == (123.25, -45.5)
    assert before.loc[release.moved, "_healpix_29"] != after.loc[release.moved, "_healpix_29"]
    assert before.loc[release.moved, "p_smooth"] == after.loc[release.moved, "p_smooth"]
    raised = {flag: (after["review_flags"] & int(flag)).astype(bool).sum() for flag in ReviewFlag}
    assert raised[ReviewFlag.BLANK] >= 2
    assert raised[ReviewFlag.REPEATED_IMAGE] == 6
    assert raised[ReviewFlag.NO_POSITION] == 4
    again = classify_release(plan_release(config))
    assert again["already_published"]
    assert again["reuse"] == summary["reuse"]


def test_a_run_may_be_resumed_with_reuse(
    previous_uri: str, full: tuple[CatalogConfig, dict[str, Any]], tmp_path: Path
) -> None:
    config = dataclasses.replace(full[0], output_uri=str(tmp_path))
    shutil.copytree(full[0].output_uri, tmp_path, dirs_exist_ok=True)
    plan = plan_release(config)
    assert plan.published is not None
    unpublish(plan.layout.catalog)
    parts = sorted(Path(plan.layout.parts).glob("part-*.parquet"))
    for part in parts[1:4]:
        part.unlink()
    resumed = plan_release(dataclasses.replace(config, reuse_from=previous_uri))
    assert (resumed.layout.fingerprint, len(resumed.todo)) == (plan.layout.fingerprint, 3)
    summary = classify_release(resumed)
    rows = sum(chunk.rows for chunk in resumed.todo)
    reused, recomputed, new, vanished, not_compared = counts(summary)
    assert (reused + recomputed + new, vanished, not_compared) == (rows, 1, 40 - rows)
    assert reused > rows / 2
    same_in_every_bit(summary["catalog_uri"], full[1]["catalog_uri"])


@pytest.mark.usefixtures("ray_started")
def test_answers_to_questions_are_published_reused_and_resumed(
    release: Release, survey: SurveyFiles, tmp_path: Path
) -> None:
    """By a checkpoint that looks at further views of unsure cutouts, with concentrations."""
    model = save_random_model(
        tmp_path / "model.safetensors", seed=4, questions=FEW_QUESTIONS, views=2, further_views_below=1.2
    )
    settings = {"classify": {"chunk_rows": 9, "concentrations": True}, "report": {"enabled": False}}
    before = classify_release(plan_release(catalog_config(survey, model, tmp_path / "a", **settings)))["catalog_uri"]
    config = next_config(release, survey, model, tmp_path / "b", **settings)
    full = classify_release(plan_release(config))["catalog_uri"]
    assert verify_catalog(full) == []
    rows = read_catalog(full).to_pandas()
    seen = rows[rows["status"] == "ok"]
    for column in question_columns(FEW_QUESTIONS, concentrations=True):
        assert (rows[column.name].notna() == (rows["status"] == "ok")).all(), column.name
        assert column.name == "smooth_or_featured_asked_fraction" or seen[column.name].nunique() > 20, column.name
    assert 5 < seen["instability"].notna().sum() < len(seen) - 5  # only where the first view is not sure

    shutil.copytree(config.output_uri, tmp_path / "c")
    resumed = plan_release(dataclasses.replace(config, output_uri=str(tmp_path / "c"), reuse_from=before))
    unpublish(resumed.layout.catalog)
    for part in sorted(Path(resumed.layout.parts).glob("part-*.parquet"))[1:4]:
        part.unlink()
    resumed = plan_release(resumed.config)
    assert len(resumed.todo) == 3
    summary = classify_release(resumed)
    assert summary["reuse"]["reused"] > 8
    same_in_every_bit(summary["catalog_uri"], full)

    without = next_config(release, survey, model, tmp_path / "d", reuse_from=before, report={"enabled": False})
    fewer = read_catalog(classify_release(plan_release(without))["catalog_uri"])
    assert [name for name in read_catalog(full).column_names if name not in fewer.column_names] == [
        name for question in FEW_QUESTIONS for name in question.dirichlet_columns
    ]
    assert fewer.equals(read_catalog(full).select(fewer.column_names))

    columns = {name: value for name, value in release.manifest.items() if name != "uri"}
    table = galaxy_batch.classify(release.manifest["uri"], model.uri, **columns).sort_by("object_id").to_pandas()
    assert (table["object_id"] == rows["object_id"]).all()
    votes = [column.name for column in question_columns(FEW_QUESTIONS)]
    assert [name for name in table.columns if name.endswith(("_fraction", "_dirichlet"))] == votes
    assert np.allclose(table[votes], rows[votes], atol=2e-3, equal_nan=True)


def test_kept_columns_cannot_have_the_name_of_an_answer(survey: SurveyFiles, tmp_path: Path) -> None:
    model = save_random_model(tmp_path / "model.safetensors", seed=4, questions=FEW_QUESTIONS)
    objects = pd.read_csv(survey.manifest).assign(Disk_edge_on_yes_fraction=0.5)
    objects.to_csv(tmp_path / "objects.csv", index=False)
    manifest = {
        "uri": str(tmp_path / "objects.csv"), "uri_template": "images/{object_id}.jpg",
        "keep_columns": ["Disk_edge_on_yes_fraction"],
    }  # fmt: skip
    with pytest.raises(InputError, match="the catalog has a column or path key 'disk_edge_on_yes_fraction'"):
        plan_release(catalog_config(survey, model, tmp_path / "out", manifest=manifest))


def test_embeddings_are_reused_where_both_catalogs_have_them(
    release: Release, survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path, ray_started: None
) -> None:
    model = with_embedding(saved_model, tmp_path / "model.safetensors", 5)
    wanted = {"classify": {"chunk_rows": 100, "embedding": 5}}  # one chunk needs no Ray
    previous = classify_release(plan_release(catalog_config(survey, model, tmp_path / "first", **wanted)))[
        "catalog_uri"
    ]
    full = classify_release(plan_release(next_config(release, survey, model, tmp_path / "full", **wanted)))
    in_chunks = {"classify": {"chunk_rows": 7, "embedding": 5}}
    reusing = next_config(release, survey, model, tmp_path / "reusing", reuse_from=previous, **in_chunks)
    summary = classify_release(plan_release(reusing))
    assert counts(summary) == (34, 5, 1, 1, 0)
    assert verify_catalog(summary["catalog_uri"]) == []
    same_in_every_bit(summary["catalog_uri"], full["catalog_uri"])
    files = [{f.path: f.sha256 for f in require_manifest(s["catalog_uri"]).embedding_files} for s in (summary, full)]
    assert files[0] == files[1] != {}
    without = next_config(release, survey, model, tmp_path / "none", reuse_from=previous, classify={"chunk_rows": 7})
    assert plan_release(without).previous is not None
    other = {"classify": {"chunk_rows": 7, "embedding": 3}}
    with pytest.raises(InputError, match=r"classify\.embedding = 5 there, 3 here"):
        plan_release(next_config(release, survey, model, tmp_path / "other", reuse_from=previous, **other))
    more = {"classify": {"embedding": 6}}
    with pytest.raises(InputError, match=r"classify\.embedding = 6: the checkpoint has 5 components"):
        plan_release(next_config(release, survey, model, tmp_path / "more", **more))
    with pytest.raises(InputError, match="the checkpoint has no components"):
        plan_release(next_config(release, survey, saved_model, tmp_path / "more", **more))


def test_a_catalog_that_cannot_be_reused_is_refused_before_ray_starts(
    survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path, previous_uri: str
) -> None:
    other = save_random_model(tmp_path / "other.safetensors", seed=99)
    with pytest.raises(InputError, match=rf"reuse_from = .*was made with model {saved_model.checkpoint.checkpoint_id}"):
        plan_release(catalog_config(survey, other, tmp_path / "a", reuse_from=previous_uri))
    broken = tmp_path / "broken"
    shutil.copytree(previous_uri, broken)
    file = sorted(broken.rglob("*.parquet"))[0]
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"does not verify, so nothing is reused: dataset/.* bytes, not"):
        plan_release(catalog_config(survey, saved_model, tmp_path / "b", reuse_from=str(broken)))


def test_a_previous_catalog_on_s3(
    s3: S3, release: Release, survey: SurveyFiles, saved_model: SavedModel, previous_uri: str
) -> None:
    for file in (path for path in Path(previous_uri).rglob("*") if path.is_file()):
        s3.put(f"previous/{file.relative_to(previous_uri)}", file.read_bytes())
    s3.put("survey/objects.parquet", (release.folder / "objects.parquet").read_bytes())
    s3.put("model.safetensors", Path(saved_model.uri).read_bytes())
    config = parse_config(
        CatalogConfig,
        {
            "release": "two", "output_uri": f"{s3.uri}/out", "checkpoint_uri": f"{s3.uri}/model.safetensors",
            "reuse_from": f"{s3.uri}/previous/", "classify": {"chunk_rows": 7},
            "manifest": {**release.manifest, "uri": f"{s3.uri}/survey/objects.parquet"},
        },
    )  # fmt: skip
    plan = plan_release(config)
    assert plan.previous is not None
    verify_previous(plan.previous, VERSIONS)
    s3.proxy.fail("previous/", "503", times=2)
    predictions = join_previous(
        plan.previous, plan.manifest, config.manifest, plan.layout.previous_predictions, run_in_order, run_rows=15
    )
    joined = pa.concat_tables(predictions.of_chunk(chunk.index) for chunk in plan.manifest.chunks)
    assert (len(joined), predictions.vanished) == (39, 1)
    assert joined["image_hash"].null_count == 4
    names = [name for name in s3.names() if "/earlier/" in name]
    assert len(names) == len(predictions.first_chunks) + 1
    assert open_previous(plan.config, saved_model.checkpoint.checkpoint_id, pa.int64()) == plan.previous


def real_survey(sky: Path, folder: Path, ids: Iterable[int], again: Iterable[int]) -> Path:
    """Cutouts of SDSS DR7, some of them compressed again; the folder's manifest."""
    (folder / "images").mkdir(parents=True)
    objects = pd.read_csv(sky / "sdss_dr7" / "objects.csv", dtype={"dr7objid": "int64"})
    wanted = set(ids)
    objects[objects["dr7objid"].isin(wanted)].to_csv(folder / "objects.csv", index=False)
    compressed = set(again)
    for object_id in wanted:
        source = sky / "sdss_dr7" / "images" / f"{object_id}.jpeg"
        if object_id in compressed:
            sink = io.BytesIO()
            Image.open(source).save(sink, "JPEG", quality=60)
            (folder / "images" / source.name).write_bytes(sink.getvalue())
        else:
            (folder / "images" / source.name).symlink_to(source)
    return folder / "objects.csv"


@pytest.mark.slow
@pytest.mark.usefixtures("ray_started")
def test_a_new_release_of_real_galaxies(sky: Path, saved_model: SavedModel, tmp_path: Path) -> None:
    """500 cutouts of SDSS DR7; in the next release 30 are gone, 40 are new, 25 were compressed again."""
    ids = pd.read_csv(sky / "sdss_dr7" / "objects.csv", dtype={"dr7objid": "int64"})["dr7objid"].tolist()[:540]
    first = real_survey(sky, tmp_path / "first", ids[:500], [])
    second = real_survey(sky, tmp_path / "second", ids[30:], ids[100:125])

    def build(manifest: Path, output: str, **settings: Any) -> dict[str, Any]:
        values = {
            "release": manifest.parent.name, "output_uri": str(tmp_path / output), "checkpoint_uri": saved_model.uri,
            "manifest": {"uri": str(manifest), "id_column": "dr7objid", "ra_column": "ra", "dec_column": "dec",
                         "uri_template": "images/{dr7objid}.jpeg", "keep_columns": ["gz1_class"]},
            "classify": {"chunk_rows": 64}, "publish": {"max_rows": 200}, "runtime": {"engine": "torch"},
        }  # fmt: skip
        return classify_release(plan_release(parse_config(CatalogConfig, {**values, **settings})))

    previous = build(first, "one")["catalog_uri"]
    reusing = build(second, "two", reuse_from=previous)
    full = build(second, "three")
    assert counts(reusing) == (445, 25, 40, 30, 0)
    same_in_every_bit(reusing["catalog_uri"], full["catalog_uri"])
