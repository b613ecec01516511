import errno
import gzip
import os
import zipfile
from pathlib import Path

import pytest
import torch

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.manifest import read_objects
from galaxy_batch.settings import load_config
from galaxy_batch.synthetic.survey import SurveyFiles
from tests.support.repository import REPOSITORY
from train.config import TrainConfig
from train.data import cutouts
from train.data.cutouts import load_cutouts
from train.data.galaxies import read_galaxies

OBJID = 587722981750865959
VOTE_COLUMNS = [
    f"t01_smooth_or_features_{answer}_debiased"
    for answer in ("a01_smooth", "a02_features_or_disk", "a03_star_or_artifact")
]


def test_pixels_beyond_the_limit_are_in_a_file(
    survey: SurveyFiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    galaxies = read_objects(ManifestConfig(str(survey.manifest), uri_template="images/{object_id}.jpg"))
    in_memory = load_cutouts(galaxies, 32, 1.0, threads=1)
    monkeypatch.setattr(cutouts, "_MAX_BYTES", 1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    in_file = load_cutouts(galaxies, 32, 1.0, threads=1)
    assert "gb-pixels-" in Path("/proc/self/maps").read_text()
    assert torch.equal(in_file.pixels, in_memory.pixels)
    assert list(tmp_path.iterdir()) == []

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"TMPDIR = .*No space left on device\): set TMPDIR"):
        load_cutouts(galaxies, 32, 1.0, threads=1)


def test_galaxy_zoo_2_is_read_as_it_is_published(survey: SurveyFiles, tmp_path: Path) -> None:
    """Votes, file names and one zip; the last galaxy has no image, and another image no votes."""
    images = sorted(survey.images.iterdir())[:4]
    with gzip.open(tmp_path / "gz2_hart16.csv.gz", "wt") as file:
        file.write(",".join(["dr7objid", "ra", "dec", "sample", *VOTE_COLUMNS]) + "\n")
        for number, smooth in enumerate((0.9, 0.1, 0.5)):
            file.write(f"{OBJID + number},180.0,0.0,original,{smooth},{1 - smooth},0.0\n")
    rows = [(OBJID, "original", 11), (OBJID, "stripe82", 12), (OBJID + 1, "extra", 13), (OBJID + 7, "original", 14)]
    rows += [(number, f"stripe82_coadd_{set_}", 20 + set_) for number in (OBJID, OBJID + 9) for set_ in (1, 2)]
    lines = [",".join(map(str, row)) for row in [("objid", "sample", "asset_id"), *rows]]
    (tmp_path / "gz2_filename_mapping.csv").write_text("\n".join(lines))
    with zipfile.ZipFile(tmp_path / "images_gz2.zip", "w") as archive:
        for asset, image in zip((11, 12, 13, 14), images, strict=True):
            archive.write(image, f"images/{asset}.jpg")
    files = {"uri": "gz2_hart16.csv.gz", "join.uri": "gz2_filename_mapping.csv"}
    overrides = [f"galaxies.{key}={tmp_path}/{name}" for key, name in files.items()]
    config = load_config(TrainConfig, REPOSITORY / "jobs" / "configs" / "train_gz2_full.toml", overrides)
    galaxies, labels = read_galaxies(config)
    assert galaxies["object_id"].to_pylist() == [OBJID, OBJID + 1, OBJID + 2]
    assert labels.label.tolist() == [0, 1, -1]
    assert galaxies["_image_uri"].to_pylist()[0] == f"zip://images/11.jpg::{tmp_path}/images_gz2.zip"
    loaded = load_cutouts(galaxies, 32, 1.0, threads=1)
    assert (len(loaded.pixels) + sum(loaded.unusable.values()), loaded.unusable["missing"]) == (3, 1)
