"""The comparison on real galaxies: the same cutouts stored, cut or drawn otherwise, and those of other surveys."""

import contextlib
import csv
import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from galaxy_batch.config import CatalogConfig
from galaxy_batch.errors import GateError
from galaxy_batch.pipeline import classify_release
from galaxy_batch.plan import plan_release
from galaxy_batch.settings import parse_config
from jobs.compare_catalogs import compare
from tests.support.models import SavedModel
from tests.support.repository import REPOSITORY

GALAXIES = 60


def shifted(image: Image.Image) -> Image.Image:
    """Ten pixels to the right."""
    frame = Image.new("RGB", image.size)
    frame.paste(image, (10, 0))
    return frame


def rescaled(image: Image.Image) -> Image.Image:
    """At 0.8 of the size, in a frame of the old one."""
    small = image.resize((round(image.width * 0.8), round(image.height * 0.8)), Image.Resampling.BICUBIC)
    frame = Image.new("RGB", image.size)
    frame.paste(small, ((image.width - small.width) // 2, (image.height - small.height) // 2))
    return frame


CHANGES: dict[str, tuple[Callable[[Image.Image], Image.Image], int]] = {
    "recompressed": (lambda image: image, 60),
    "shifted": (shifted, 95),
    "rescaled": (rescaled, 95),
}


def objects_of(sky: Path) -> list[dict[str, str]]:
    """Real galaxies, those with a position first."""
    with (sky / "sdss_dr7" / "objects.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["ra"] == "")
    return rows[:GALAXIES]


def write_manifest(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def classified(output: Path, release: str, manifest: dict[str, Any], model: SavedModel) -> str:
    """The URI of a catalog."""
    values = {
        "release": release, "output_uri": str(output), "checkpoint_uri": model.uri, "max_failed_fraction": 0.2,
        "manifest": manifest, "classify": {"chunk_rows": 30}, "runtime": {"num_cpus": 2, "engine": "torch"},
    }  # fmt: skip
    uri: str = classify_release(plan_release(parse_config(CatalogConfig, values)))["catalog_uri"]
    return uri


def compared(old: str, new: str, output: Path, *more: str) -> dict[str, Any]:
    """The content of `comparison.json`."""
    settings = [f"old_uri={old}", f"new_uri={new}", f"output_uri={output}", *more]
    config = REPOSITORY / "jobs" / "configs" / "compare_releases.toml"
    with contextlib.suppress(GateError):
        compare(Namespace(config=str(config), set=settings))
    content: dict[str, Any] = json.loads((output / "comparison.json").read_text())
    assert (output / "index.html").stat().st_size > 20_000
    return content


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_real_galaxies_against_changed_copies_and_other_surveys(
    sky: Path, tmp_path: Path, saved_model: SavedModel, ray_started: None
) -> None:
    objects = objects_of(sky)
    images = sky / "sdss_dr7" / "images"
    sdss = {
        "uri": str(write_manifest(tmp_path / "sdss.csv", objects)), "id_column": "dr7objid", "ra_column": "ra",
        "dec_column": "dec", "uri_template": f"{images}/{{dr7objid}}.jpeg",
    }  # fmt: skip
    old = classified(tmp_path / "out", "sdss", sdss, saved_model)
    again = compared(old, classified(tmp_path / "out", "again", sdss, saved_model), tmp_path / "same")
    assert (again["matching"]["matched"], again["flipped"], again["gates_crossed"]) == (GALAXIES, 0, [])
    assert all((shift["psi"], shift["ks"], shift["mean_change"]) == (0, 0, 0) for shift in again["shifts"].values())
    for name, (change, quality) in CHANGES.items():
        folder = tmp_path / name
        folder.mkdir()
        for row in objects:
            with Image.open(images / f"{row['dr7objid']}.jpeg") as image:
                change(image.convert("RGB")).save(folder / f"{row['dr7objid']}.jpeg", quality=quality)
        manifest = {**sdss, "uri_template": f"{folder}/{{dr7objid}}.jpeg"}
        result = compared(old, classified(tmp_path / "out", name, manifest, saved_model), tmp_path / name / "page")
        assert (result["matching"]["matched"], result["compared"]) == (GALAXIES, GALAXIES), name
        assert result["shifts"]["p_featured"]["mean_change"] > 0, name
        assert result["failed"]["new"] == 0, name
    by_place = compared(old, classified(tmp_path / "out", "again", sdss, saved_model), tmp_path / "place",
                        "match=position", "radius_arcsec=1")  # fmt: skip
    assert by_place["matching"]["matched"] == sum(row["ra"] != "" for row in objects) == GALAXIES
    with (sky / "other_surveys" / "labels.csv").open() as file:
        files = [str(sky / "other_surveys" / "images" / row["file"]) for row in csv.DictReader(file)][:GALAXIES]
    strangers = write_manifest(tmp_path / "other.csv", [{"object_id": n, "image": uri} for n, uri in enumerate(files)])
    other = classified(tmp_path / "out", "other", {"uri": str(strangers), "image_column": "image"}, saved_model)
    result = compared(old, other, tmp_path / "strangers")
    assert result["matching"]["matched"] == 0
    assert {"max_flip_rate", "max_only_old_fraction"} <= set(result["gates_crossed"])
    assert result["shifts"]["p_featured"]["ks"] > 0
