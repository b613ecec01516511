"""The whole pipeline: the demo, and training and classification of real galaxies."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.rows import ReviewFlag
from tests.support.jobs import run_job, summary_of
from tests.support.skies import read_catalog


def test_the_demo(tmp_path: Path) -> None:
    settings = (f"output_uri={tmp_path}", "galaxies=60", "epochs=1")
    process = run_job("demo", *(word for setting in settings for word in ("--set", setting)), timeout=170)
    assert process.returncode == 0, process.stderr
    summary = summary_of(process)
    assert (summary["rows"], summary["status_counts"]["missing"]) == (60, 1)
    assert verify_catalog(summary["catalog_uri"]) == []
    assert f"catalog: {summary['catalog_uri']}" in process.stdout
    assert "flag REPEATED_IMAGE" in process.stdout
    query = re.search(r'python -c "(.*)"\n', process.stdout)
    assert query
    pasted = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "{query[1]}"'], capture_output=True, text=True, check=True, timeout=60
    )
    assert "mean_confidence" in pasted.stdout
    assert set(summary["class_counts"]) == set(re.findall(r"smooth|featured", pasted.stdout))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_model_trained_on_gz2_classifies_sdss_dr7(sky: Path, tmp_path: Path) -> None:
    """The commands for training and classification, with local pretrained weights."""
    train = run_job(
        "train_model", "jobs/configs/train_gz2.toml",
        "--set", f"galaxies.uri={sky / 'gz2' / 'training_solutions.csv'}",
        "--set", f"output_uri={tmp_path / 'model'}",
        "--set", "network.architecture=tf_efficientnet_lite0",
        "--set", f"network.weights={sky / 'weights' / 'tf_efficientnet_lite0_imagenet_timm.pth'}",
        "--set", "network.mean=[0.5, 0.5, 0.5]", "--set", "network.std=[0.5, 0.5, 0.5]",
        timeout=3000,
    )  # fmt: skip
    assert train.returncode == 0, train.stderr
    assert summary_of(train)["accuracy"] > 0.85
    build = run_job(
        "build_catalog", "jobs/configs/sdss_dr7.toml",
        "--set", f"manifest.uri={sky / 'sdss_dr7' / 'objects.csv'}",
        "--set", f"checkpoint_uri={tmp_path / 'model' / 'model.safetensors'}",
        "--set", f"output_uri={tmp_path / 'catalogs'}",
        timeout=1200,
    )  # fmt: skip
    assert build.returncode == 0, build.stderr
    summary = summary_of(build)
    assert (summary["rows"], summary["failed"]) == (1140, 0)
    catalog = read_catalog(summary["catalog_uri"]).to_pandas()
    objects = pd.read_csv(sky / "sdss_dr7" / "objects.csv", dtype={"dr7objid": "int64"})
    assert sorted(catalog["object_id"]) == sorted(objects["dr7objid"])
    assert catalog["ra"].isna().sum() == 932
    spirals = catalog[catalog["gz1_class"].isin(["spiral_clockwise", "spiral_anticlockwise", "edge_on"])]
    assert len(spirals) == 341
    assert (spirals["predicted_class"] == "featured").mean() >= 0.8
    unfamiliar = (catalog["review_flags"] & int(ReviewFlag.UNFAMILIAR)).astype(bool)
    assert unfamiliar[catalog["gz1_class"] == "star_or_dont_know"].mean() > 0.5
    assert unfamiliar[catalog["gz1_class"] == "elliptical"].mean() < 0.1
    assert catalog["instability"].between(0, 0.5).all()
