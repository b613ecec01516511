"""A dry run reports the errors of a run in advance, and leaves no files."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from galaxy_batch.catalog.parts import write_part
from galaxy_batch.config import CatalogConfig, DryRunConfig
from galaxy_batch.dry_run import dry_run_release, sample_positions
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.manifest import Chunk, Manifest, read_chunk
from galaxy_batch.plan import ReleasePlan, plan_release
from galaxy_batch.rows import Status
from galaxy_batch.settings import load_config
from galaxy_batch.synthetic.survey import SurveyFiles
from tests.support.configs import CATALOG_TOML, catalog_config
from tests.support.jobs import run_job, summary_of
from tests.support.models import SavedModel
from tests.support.s3_server import S3


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def write_classified_part(plan: ReleasePlan, chunk: int, status: Status) -> None:
    """A part whose rows all have this status."""
    rows = read_chunk(pa.Table.from_pylist([plan.manifest.chunks[chunk].as_item()]), plan.config.manifest)
    ok = status == Status.OK
    values = {
        "status": pa.scalar(str(status)),
        "predicted_class": pa.scalar("smooth" if ok else None, pa.string()),
        "review_flags": pa.scalar(0 if ok else 2, pa.int32()),
        "needs_review": pa.scalar(not ok),
    }
    for field in plan.schema:
        if field.name not in (*rows.column_names, "release", "model_id"):
            value = values.get(field.name, pa.scalar(None, field.type))
            rows = rows.append_column(field.name, pa.repeat(value, len(rows)))
    write_part(rows, plan.layout.parts, plan.schema, "made-up", "m")


@pytest.mark.parametrize("sizes", [[7], [1, 1, 1], [100, 3, 900, 1], [64] * 40])
@pytest.mark.parametrize("sample", [1, 2, 32, 5000])
def test_a_sample_is_evenly_spread_without_repeated_rows(sizes: list[int], sample: int) -> None:
    manifest = Manifest(sum(sizes), tuple(Chunk(n, rows) for n, rows in enumerate(sizes)), "", pa.int64(), (), 0)
    positions = sample_positions(manifest, sample)
    starts = np.cumsum([0, *sizes])
    rows = [int(starts[chunk] + row) for chunk, inside in positions.items() for row in inside]
    assert all((inside >= 0).all() and (inside < sizes[chunk]).all() for chunk, inside in positions.items())
    assert len(rows) == len(set(rows)) == min(sample, sum(sizes))
    gaps = np.diff([-1, *sorted(rows), sum(sizes)])
    assert gaps.max() <= sum(sizes) / len(rows) + 1.5


def test_a_sample_is_classified_and_no_file_is_left(
    survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"dry_run": {"sample": 20}, "runtime": {"engine": "torch", "num_cpus": 2}}
    plan = plan_release(catalog_config(survey, saved_model, tmp_path / "a" / "out", **settings))
    with caplog.at_level("INFO"):
        summary = dry_run_release(plan)
    assert files_below(tmp_path) == []
    assert summary["dry_run"] is True
    assert (summary["rows"], summary["chunks"], summary["chunks_done"], summary["chunks_todo"]) == (40, 6, 0, 6)
    sample = summary["sample"]
    assert sample["rows"] == 20
    assert sum(sample["status_counts"].values()) == 20
    assert sample["failed"] == 20 - sample["status_counts"]["ok"] == 20 - sum(sample["class_counts"].values())
    assert 0 < sample["failed"] <= sample["flagged"]
    rate = min(2 * sample["classified_per_s"], 2 * sample["read_per_s"])  # two actors; 0.5 CPUs left for two readers
    assert summary["estimated_seconds"] >= round(40 / rate, 1) - 0.2
    assert any("2 model actors" in line for line in summary["assumes"])
    assert any("2 read tasks" in line for line in summary["assumes"])
    assert any("this machine alone, 2 CPUs" in line for line in summary["assumes"])
    for line in summary["assumes"]:
        assert line in caplog.text
    json.dumps(summary)


def test_finished_chunks_and_published_catalogs_are_not_estimated(
    survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path
) -> None:
    config = catalog_config(survey, saved_model, tmp_path)
    plan = plan_release(config)
    for chunk in (0, 3):
        write_classified_part(plan, chunk, Status.OK)
    summary = dry_run_release(plan_release(config))
    assert (summary["chunks_done"], summary["chunks_todo"], summary["rows_todo"]) == (2, 4, 40 - 14)
    for chunk in (1, 2, 4, 5):
        write_classified_part(plan, chunk, Status.OK)
    left = files_below(tmp_path)
    nothing = dry_run_release(plan_release(config))
    assert (nothing["chunks_todo"], nothing["estimated_seconds"], nothing["sample"]["from_parts"]) == (0, 0, 32)
    assert files_below(tmp_path) == left
    done = dry_run_release(dataclasses.replace(plan, published={"rows": 40}))
    assert (done["already_published"], done["chunks_done"], done["rows_todo"]) == (True, 6, 0)


def test_finished_parts_count_as_they_are_except_missing_cutouts(
    survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = catalog_config(survey, saved_model, tmp_path, dry_run={"sample": 40}, max_failed_fraction=0.2)
    plan = plan_release(config)
    for chunk in plan.manifest.chunks:
        write_classified_part(plan, chunk.index, Status.MISSING)
    with caplog.at_level("INFO"):
        sample = dry_run_release(plan_release(config))["sample"]  # the cutouts are there by now
    assert (sample["from_parts"], sample["status_counts"]) == (0, {"missing": 1, "ok": 36, "unreadable": 3})
    assert "  status: 36 ok, 3 unreadable, 1 missing" in caplog.text
    for name, key in (("class", "class_counts"), ("flag", "flag_counts")):
        assert all(f"{number} {value}" in caplog.text for value, number in sample[key].items() if number), name
    assert "a cutout of the sample without a class: object " in caplog.text
    for chunk in plan.manifest.chunks[1:]:
        write_classified_part(plan, chunk.index, Status.UNREADABLE)
    with pytest.raises(InputError, match=r"33 of 40 sampled cutouts have no class \(33 unreadable\), more than"):
        dry_run_release(plan_release(config))


def test_too_many_failures_are_an_input_error(survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path) -> None:
    strict = catalog_config(survey, saved_model, tmp_path, max_failed_fraction=0.05, dry_run={"sample": 40})
    wanted = r"manifest.uri_template = 'images/{object_id}.jpg': 4 of 40 sampled cutouts have no class \(3 unreadable, "
    with pytest.raises(InputError, match=wanted + r"1 missing\), more than max_failed_fraction = 0.05; for example"):
        dry_run_release(plan_release(strict))
    elsewhere = dataclasses.replace(strict.manifest, uri_template="pictures/{object_id}.jpg")
    with pytest.raises(InputError, match=r"\(40 missing\).*pictures/\d+\.jpg: no such file\. Check that the cutouts"):
        dry_run_release(plan_release(dataclasses.replace(strict, manifest=elsewhere)))
    nothing = plan_release(dataclasses.replace(strict, manifest=elsewhere, max_failed_fraction=1.0))
    assert dry_run_release(nothing)["estimated_seconds"] is None
    assert files_below(tmp_path) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_here_only_a_cluster_run_can_be_tried(
    survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"runtime": {"device": "cuda", "engine": "torch"}, "dry_run": {"sample": 3}}
    plan = plan_release(catalog_config(survey, saved_model, tmp_path, **settings))
    with pytest.raises(InputError, match=r"runtime\.device = 'cuda': this machine has no GPU"):
        dry_run_release(plan)
    summary = dry_run_release(plan, on_cluster=True)
    assert summary["sample"]["engine"] == "torch"
    assert "the cluster has others" in summary["assumes"][0]


def test_the_command_uses_no_ray_and_writes_nothing(
    survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "catalog.toml"
    output = tmp_path / "out"
    config.write_text(CATALOG_TOML.format(output=output, checkpoint=saved_model.uri, manifest=survey.manifest))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # no cluster there
    process = run_job("build_catalog", str(config), "--dry-run")
    assert process.returncode == 0, process.stderr
    summary = summary_of(process)
    assert (summary["dry_run"], summary["rows"], summary["sample"]["rows"]) == (True, 40, 32)
    assert summary["estimated_seconds"] > 0
    assert "for 40 rows, assuming:" in process.stderr
    assert "the cluster has others" in process.stderr
    assert files_below(tmp_path) == ["catalog.toml"]


def test_denied_access_names_the_field(s3: S3, survey: SurveyFiles, saved_model: SavedModel, tmp_path: Path) -> None:
    objects = pd.read_csv(survey.manifest, dtype={"object_id": "int64"})
    objects = objects[~objects["object_id"].isin(list(survey.defects))]
    s3.put("objects.csv", objects.to_csv(index=False).encode())
    for object_id in objects["object_id"]:
        s3.put(f"images/{object_id}.jpg", (survey.images / f"{object_id}.jpg").read_bytes())
    toml = tmp_path / "s3.toml"
    toml.write_text(
        CATALOG_TOML.format(output=f"{s3.uri}/out", checkpoint=saved_model.uri, manifest=f"{s3.uri}/objects.csv")
    )
    config = load_config(CatalogConfig, toml, ["dry_run.sample=8", "max_failed_fraction=0.05"])
    stored = s3.names()

    def refused(part: str, response: str = "403", method: str | None = "GET", times: float = 99) -> str:
        s3.proxy.fail(part, response, times, method)
        try:
            with pytest.raises(InputError) as caught:
                dry_run_release(plan_release(config))
        finally:
            s3.proxy.forget()
        return str(caught.value)

    summary = dry_run_release(plan_release(config))
    assert (summary["rows"], summary["sample"]["status_counts"]) == (28, {"ok": 8})
    assert s3.names() == stored
    assert refused("/out/", method="PUT").startswith(f"output_uri = '{s3.uri}/out': cannot be written")
    assert refused("objects.csv", method=None).startswith(f"manifest.uri = '{s3.uri}/objects.csv': ")
    assert refused("/images/").count("8 of 8 sampled cutouts have no class (8 unreachable)") == 1
    some = next(name for name in stored if name.startswith("images/"))
    config = dataclasses.replace(config, max_failed_fraction=0.5, dry_run=DryRunConfig(sample=40))
    assert "1 of 28 sampled cutouts have no class (1 unreachable), and keep_unreachable = false" in refused(some)
    s3.put("out/elsewhere", b"")
    assert dry_run_release(plan_release(config))["chunks_todo"] == 4
