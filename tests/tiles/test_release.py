"""A release whose cutouts are cut from tiles: published, flagged, resumed, packed; in this process where possible."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.config import CatalogConfig, ManifestConfig
from galaxy_batch.dry_run import dry_run_release
from galaxy_batch.errors import GateError, InputError, RunInterrupted
from galaxy_batch.inputs.manifest import read_objects
from galaxy_batch.packing.config import PackConfig
from galaxy_batch.packing.pack import pack_cutouts
from galaxy_batch.packing.plan import plan_pack
from galaxy_batch.pipeline import classify_release
from galaxy_batch.plan import plan_release
from galaxy_batch.report.cutouts import fetch_examples
from galaxy_batch.review_queue.bundle import add_pictures
from galaxy_batch.review_queue.config import ReviewQueueConfig
from galaxy_batch.rows import ReviewFlag
from galaxy_batch.settings import parse_config
from galaxy_batch.synthetic.tiles import TileSurveyFiles
from tests.support.configs import POSITIONS
from tests.support.models import SavedModel
from tests.support.skies import read_catalog
from tests.support.tile_surveys import GALAXIES, tile_catalog_config, tile_values


@pytest.fixture(scope="module")
def first_survey(tile_survey: TileSurveyFiles, tmp_path_factory: pytest.TempPathFactory) -> TileSurveyFiles:
    """A copy of the survey with two more objects: one on the edge of the field and one far away."""
    folder = tmp_path_factory.mktemp("edge")
    side = 0.5 * (700 * 2 - 300) * 0.396 / 3600
    files = copied(tile_survey, folder)
    with files.manifest.open("a") as file:
        file.write(f"1,{360 - side / np.cos(np.radians(30)) * 0.99},{30.0 + 0.8 * side},8\n2,90,-10,8\n")
    return files


@pytest.fixture(scope="module")
def first_catalog(
    first_survey: TileSurveyFiles, saved_model: SavedModel, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The catalog of that survey."""
    config = tile_catalog_config(first_survey, saved_model, tmp_path_factory.mktemp("out"))
    return str(classify_release(plan_release(config), on_ray=False)["catalog_uri"])


@pytest.fixture(scope="module")
def first(first_catalog: str) -> pa.Table:
    """Its rows."""
    return published({"catalog_uri": first_catalog})


@pytest.fixture
def edge_survey(first_survey: TileSurveyFiles, tmp_path: Path) -> TileSurveyFiles:
    """A copy that a test may change."""
    return copied(first_survey, tmp_path / "survey")


def copied(files: TileSurveyFiles, folder: Path) -> TileSurveyFiles:
    shutil.copytree(files.manifest.parent, folder, dirs_exist_ok=True)
    return TileSurveyFiles(
        folder / "objects.csv", folder / "tiles", folder / "tiles.csv", files.templates, files.tile_deg
    )


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def published(summary: dict[str, Any]) -> pa.Table:
    assert verify_catalog(summary["catalog_uri"]) == []
    return read_catalog(summary["catalog_uri"]).sort_by("object_id")


def test_a_row_in_is_a_row_out_with_its_empty_fraction(first: pa.Table, first_survey: TileSurveyFiles) -> None:
    rows = first
    assert rows["object_id"].to_pylist() == sorted(pacsv.read_csv(first_survey.manifest)["object_id"].to_pylist())
    by_id = {row["object_id"]: row for row in rows.to_pylist()}
    assert (by_id[2]["status"], by_id[2]["error"]) == ("missing", "outside every tile")
    assert by_id[2]["empty_fraction"] is None
    assert by_id[2]["review_flags"] & ReviewFlag.UNREADABLE
    assert by_id[1]["status"] == "ok"
    assert 0.1 < by_id[1]["empty_fraction"] < 0.5
    assert by_id[1]["review_flags"] & ReviewFlag.INCOMPLETE
    for object_id in by_id.keys() - {1, 2}:
        assert (by_id[object_id]["status"], by_id[object_id]["empty_fraction"]) == ("ok", 0.0)
        assert not by_id[object_id]["review_flags"] & ReviewFlag.INCOMPLETE
    assert len(set(rows["image_hash"].to_pylist())) == GALAXIES + 2
    field = rows.schema.field("empty_fraction")
    assert field.type == pa.float32()


def test_a_resumed_run_reads_no_header_again_and_gives_the_same_catalog(
    first: pa.Table, first_survey: TileSurveyFiles, saved_model: SavedModel, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    config = tile_catalog_config(first_survey, saved_model, tmp_path)
    plan = plan_release(config)
    monkeypatch.setattr("galaxy_batch.pipeline.sort_parts", interrupt)
    with pytest.raises(RunInterrupted):
        classify_release(plan, on_ray=False)
    monkeypatch.undo()
    parts = sorted(Path(plan.layout.parts).iterdir())
    assert len(parts) == len(plan.manifest.chunks) > 3
    for part in parts[1:3]:
        part.unlink()
    monkeypatch.setattr("galaxy_batch.tiles.tile_table.read_header", lambda uri: pytest.fail("read again"))
    resumed = plan_release(config)
    assert resumed.layout.fingerprint == plan.layout.fingerprint
    assert len(resumed.todo) == 2
    assert published(classify_release(resumed, on_ray=False)).equals(first)


def test_missing_tiles_are_looked_for_again_and_objects_outside_are_not(
    edge_survey: TileSurveyFiles, saved_model: SavedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = {
        "table": str(edge_survey.table), "band_templates": [f"tiles/{{tile}}-{band}.fits" for band in "irg"],
        "ra_column": "ra", "dec_column": "dec", "width_deg": edge_survey.tile_deg, "height_deg": edge_survey.tile_deg,
    }  # fmt: skip
    config = tile_catalog_config(edge_survey, saved_model, tmp_path / "out", **values)
    object.__setattr__(config, "max_failed_fraction", 0.05)
    hidden = edge_survey.tiles / "field000-r.fits"
    hidden.rename(tmp_path / "hidden.fits")
    with pytest.raises(GateError, match="missing"):
        classify_release(plan_release(config), on_ray=False)
    plan = plan_release(config)
    assert plan.todo == ()
    assert plan.retry
    (tmp_path / "hidden.fits").rename(hidden)
    caplog.set_level(logging.INFO)
    summary = classify_release(plan, on_ray=False)
    assert summary["status_counts"]["missing"] == 1
    assert "that were missing exist now" in caplog.text
    caplog.clear()
    assert classify_release(plan_release(config), on_ray=False)["already_published"]


def test_a_bad_tile_is_named_once_with_its_objects(
    edge_survey: TileSurveyFiles, saved_model: SavedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = (edge_survey.tiles / "field000-g.fits").read_bytes()
    (edge_survey.tiles / "field000-g.fits").write_bytes(content[:2880])
    config = tile_catalog_config(edge_survey, saved_model, tmp_path / "out")
    summary = classify_release(plan_release(config), on_ray=False)
    (bad,) = [tile for tile in summary["bad_tiles"] if "field000-g.fits" in tile["error"]]
    assert bad["status"] == "unreadable"
    assert bad["objects"] == summary["status_counts"]["unreadable"] > 1
    lines = [record.message for record in caplog.records if "field000-g.fits" in record.message]
    assert len(lines) == 1
    assert f"{bad['objects']} objects" in lines[0]
    assert len(published(summary)) == GALAXIES + 2


def test_pages_and_queues_show_the_cutouts(first_catalog: str, first: pa.Table, tmp_path: Path) -> None:
    manifest = require_manifest(first_catalog)
    assert manifest.review_limits.max_empty_fraction == 0.1
    ids = first["object_id"].to_pylist()
    hashes = dict(zip(ids, first["image_hash"].to_pylist(), strict=True))
    wanted = [ids[5], ids[9], 1, 2]
    examples = fetch_examples(wanted, manifest)
    for object_id in wanted[:3]:
        example = examples[str(object_id)]
        assert example.image_hash == hashes[object_id]
        assert example.pixels(64).shape == (3, 64, 64)
        assert len(example.uris) == 3
    assert (examples["2"].content, examples["2"].reason) == (None, "missing")
    config = parse_config(ReviewQueueConfig, {"catalog_uri": first_catalog, "uniform": 2})
    rows = first.take(pa.array([5, 9])).append_column("position", pa.array([1, 2]))
    for name in ("picture", "picture_error"):
        rows = rows.append_column(name, pa.nulls(2, pa.string()))
    pictures = add_pictures(rows, str(tmp_path), config, manifest)
    assert pictures["picture_error"].to_pylist() == [None, None]
    assert all((tmp_path / path).is_file() for path in pictures["picture"].to_pylist())


def test_training_needs_packed_cutouts(first_survey: TileSurveyFiles) -> None:
    with pytest.raises(InputError, match=r"manifest\.tiles = .*jobs\.pack_cutouts"):
        read_objects(parse_config(ManifestConfig, tile_values(first_survey)))


def test_a_dry_run_cuts_a_sample(edge_survey: TileSurveyFiles, saved_model: SavedModel, tmp_path: Path) -> None:
    config = tile_catalog_config(edge_survey, saved_model, tmp_path / "out")
    summary = dry_run_release(plan_release(config))
    assert summary["sample"]["rows"] == GALAXIES + 2
    assert summary["sample"]["status_counts"]["ok"] == GALAXIES + 1


def test_shards_cut_from_tiles_give_the_same_catalog(
    first: pa.Table, first_survey: TileSurveyFiles, saved_model: SavedModel, tmp_path: Path, ray_started: None
) -> None:
    pack = {"output_uri": str(tmp_path / "packed"), "manifest": tile_values(first_survey), "row_group_rows": 7}
    packing = parse_config(PackConfig, {**pack, "runtime": {"num_cpus": 1}})
    packed = pack_cutouts(plan_pack(packing))
    assert packed["rows"] == GALAXIES + 2
    assert packed["failed"] == 1
    assert pack_cutouts(plan_pack(packing))["already_packed"]
    config = tile_catalog_config(first_survey, saved_model, tmp_path / "out")
    by_ray = published(classify_release(plan_release(config)))
    manifest = {"uri": packed["shards_uri"], **POSITIONS, "image_column": "image", "keep_columns": ["empty_fraction"]}
    from_shards = parse_config(
        CatalogConfig,
        {
            "release": "packed", "output_uri": str(tmp_path / "out"), "checkpoint_uri": saved_model.uri,
            "max_failed_fraction": 0.9, "manifest": manifest, "report": {"enabled": False},
            "classify": {"rgb": {key: list(value) if isinstance(value, tuple) else value for key, value in
                                 vars(config.classify.rgb).items()}},
        },
    )  # fmt: skip
    by_shards = published(classify_release(plan_release(from_shards), on_ray=False))
    for rows in (by_ray, by_shards):
        for name in ("object_id", "image_hash", "empty_fraction", "predicted_class", "ra"):
            assert rows[name].equals(first[name]), name
        np.testing.assert_allclose(rows["confidence"].to_numpy(), first["confidence"].to_numpy(), atol=1e-5)


_RUN = """
import sys, tomllib
from galaxy_batch.config import CatalogConfig, ManifestConfig
from galaxy_batch.pipeline import classify_release
from galaxy_batch.plan import plan_release
from galaxy_batch.settings import load_config
classify_release(plan_release(load_config(CatalogConfig, sys.argv[1])), on_ray=False)
"""


def as_toml(config: CatalogConfig, tiles: dict[str, Any]) -> str:
    lines = [f'release = "{config.release}"', f'output_uri = "{config.output_uri}"', "max_failed_fraction = 0.9"]
    lines += [f'checkpoint_uri = "{config.checkpoint_uri}"', "[classify]", "chunk_rows = 3", "[report]"]
    lines += ["enabled = false", "[runtime]", 'engine = "torch"', "num_cpus = 1", "[manifest]"]
    lines += [f'uri = "{config.manifest.uri}"', 'ra_column = "ra"', 'dec_column = "dec"', "[manifest.tiles]"]
    return "\n".join([*lines, *(f"{key} = {json.dumps(value)}" for key, value in tiles.items())])


def test_a_run_that_is_killed_loses_and_doubles_nothing(
    edge_survey: TileSurveyFiles, saved_model: SavedModel, tmp_path: Path
) -> None:
    config = tile_catalog_config(edge_survey, saved_model, tmp_path / "out")
    file = tmp_path / "config.toml"
    file.write_text(as_toml(config, tile_values(edge_survey)["tiles"]))
    command = [sys.executable, "-c", _RUN, str(file)]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if list((tmp_path / "out").rglob("part-*.parquet")):
                os.killpg(process.pid, signal.SIGKILL)
                break
    parts = list((tmp_path / "out").rglob("part-*.parquet"))
    subprocess.run(command, check=True, timeout=120)
    (manifest,) = (tmp_path / "out").rglob("catalog/manifest.json")
    rows = published({"catalog_uri": str(manifest.parent)})
    assert rows["object_id"].to_pylist() == sorted(pacsv.read_csv(edge_survey.manifest)["object_id"].to_pylist())
    assert len(parts) < -(-(GALAXIES + 2) // 3)
    for part in parts:
        assert pq.read_table(part).num_rows <= 3
