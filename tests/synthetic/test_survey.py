"""The simulated survey: reproducible, written in slices, similar to real data, with the requested defects."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
from PIL import Image

from galaxy_batch.synthetic import survey as synthetic
from galaxy_batch.synthetic.rendering import render
from galaxy_batch.synthetic.survey import DEFECTS, ONE_OF_EACH_DEFECT, SurveyFiles, make_objects, write_images

SKY = Path(os.environ.get("GALAXY_BATCH_SKY", Path(__file__).parents[2] / "shared" / "sky"))


def pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"), dtype=np.float64)


@pytest.fixture(scope="module")
def objects() -> pa.Table:
    return make_objects(2000, seed=5, without_position=60)


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> tuple[SurveyFiles, Path]:
    folder = tmp_path_factory.mktemp("survey")
    return synthetic.write_survey(folder, 16, seed=3, defects=ONE_OF_EACH_DEFECT, without_position=4), folder


def test_the_seed_determines_all_bytes_in_any_order() -> None:
    forward = [render(index, seed=1) for index in range(6)]
    backward = [render(index, seed=1) for index in reversed(range(6))]
    assert forward == backward[::-1]
    assert len(set(forward)) == 6
    assert not set(forward) & {render(index, seed=2) for index in range(6)}
    assert make_objects(40, seed=1).equals(make_objects(90, seed=1).slice(0, 40))
    assert not make_objects(40, seed=1).equals(make_objects(40, seed=2))


def test_slices_write_the_same_files_as_the_whole(survey: tuple[SurveyFiles, Path], tmp_path: Path) -> None:
    files, _ = survey
    for start, stop in ((9, 16), (0, 9)):
        write_images(tmp_path, 16, seed=3, defects=ONE_OF_EACH_DEFECT, start=start, stop=stop)
    again = synthetic.write_tables(tmp_path, 16, seed=3, defects=ONE_OF_EACH_DEFECT, without_position=4)
    whole = {path.name: path.read_bytes() for path in files.images.iterdir()}
    assert whole == {path.name: path.read_bytes() for path in (tmp_path / "images").iterdir()}
    assert files.manifest.read_bytes() == again.manifest.read_bytes()
    assert files.votes.read_bytes() == again.votes.read_bytes()
    assert files.defects == again.defects


def test_ids_are_unique_and_need_64_bits(objects: pa.Table) -> None:
    assert objects["object_id"].type == pa.int64()
    ids = objects["object_id"].to_numpy()
    assert len(np.unique(ids)) == len(ids)
    assert (ids > 2**53).all()
    assert (ids.astype(np.float64).astype(np.int64) != ids).mean() > 0.9, "a float must not be able to hold them"
    assert (ids >> 59 == 2).all()
    assert ((ids >> 48) & 0x7FF == 301).all()
    assert set((ids >> 29) & 7) == {1, 2, 3, 4, 5, 6}
    assert len(np.unique(synthetic.object_ids(np.arange(200_000), seed=8))) == 200_000


def test_positions_lie_on_the_footprint_and_some_are_null(objects: pa.Table) -> None:
    assert objects["ra"].null_count == objects["dec"].null_count == 60
    known = objects.filter(objects["ra"].is_valid())
    ra, dec = known["ra"].to_numpy(), known["dec"].to_numpy()
    assert ((ra >= 0) & (ra < 360) & (dec > -5) & (dec < 70)).all()
    stripe = (ra < 60) | (ra >= 310)
    assert 0.03 < stripe.mean() < 0.1
    assert (np.abs(dec[stripe]) <= 1.25).all()
    # Uniform on the sky: in a band that the ellipse spans, counts are proportional to the cosine of declination.
    band = (ra > 165) & (ra < 205)
    low, high = (band & (dec > 5) & (dec < 20)).sum(), (band & (dec > 45) & (dec < 60)).sum()
    assert low / high == pytest.approx(0.255 / 0.159, rel=0.35)


def test_vote_fractions_resemble_those_of_galaxy_zoo_2(objects: pa.Table) -> None:
    votes = np.stack([objects[f"Class1.{number}"].to_numpy() for number in (1, 2, 3)], axis=1)
    assert ((votes >= 0) & (votes <= 1)).all()
    np.testing.assert_allclose(votes.sum(axis=1), 1, atol=1e-12)
    smooth, featured = (votes[:, :2] >= 0.6).mean(axis=0)
    assert smooth == pytest.approx(0.34, abs=0.08)  # Galaxy Zoo 2 has 0.34, 0.46 and 0.21
    assert featured == pytest.approx(0.46, abs=0.08)
    assert 1 - smooth - featured == pytest.approx(0.21, abs=0.08)
    assert votes[:, 2].mean() == pytest.approx(0.025, abs=0.015)


def test_clear_votes_agree_with_the_true_class(objects: pa.Table) -> None:
    truth = np.asarray(objects["true_class"].to_pylist())
    smooth = objects["Class1.1"].to_numpy()
    assert (smooth[truth == "featured"] < 0.4).mean() > 0.6
    assert (smooth[truth == "smooth"] > 0.6).mean() > 0.6


def test_tables_hold_every_object_exactly(survey: tuple[SurveyFiles, Path]) -> None:
    files, folder = survey
    assert files.manifest.parent == files.images.parent == folder
    manifest, votes, truth = pacsv.read_csv(files.manifest), pacsv.read_csv(files.votes), make_objects(16, 3, 4)
    assert manifest.column_names == ["object_id", "ra", "dec"]
    assert votes.column_names == ["GalaxyID", "Class1.1", "Class1.2", "Class1.3"]
    assert manifest["object_id"].to_pylist() == votes["GalaxyID"].to_pylist() == truth["object_id"].to_pylist()
    assert manifest["ra"].to_pylist() == truth["ra"].to_pylist()
    assert manifest["ra"].null_count == 4


def test_every_defect_has_its_effect(survey: tuple[SurveyFiles, Path]) -> None:
    files, _ = survey
    ids = pacsv.read_csv(files.manifest)["object_id"].to_pylist()
    assert sorted(files.defects.values()) == sorted(name for name, n in ONE_OF_EACH_DEFECT.items() for _ in range(n))
    paths: dict[str, list[Path]] = {name: [] for name in DEFECTS}
    for object_id, name in files.defects.items():
        paths[name].append(files.images / f"{object_id}.jpg")
    (truncated,), (empty,), (text,), (black,) = (paths[name] for name in ("truncated", "empty", "text", "black"))
    assert truncated.read_bytes().startswith(b"\xff\xd8")
    with pytest.raises(OSError, match="truncated"):
        Image.open(truncated).load()
    assert empty.read_bytes() == b""
    assert text.read_bytes().decode("ascii").startswith("<html>")
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(text)
    assert pixels(black.read_bytes()).max() == 0
    message = pixels(paths["server_message"][0].read_bytes())
    assert np.median(message) == 0
    assert 0.001 < (message.max(axis=2) > 150).mean() < 0.05
    assert not paths["missing"][0].exists()
    assert len(paths["placeholder"]) == 6
    assert len({path.read_bytes() for path in paths["placeholder"]}) == 1
    for object_id in set(ids) - set(files.defects):
        assert pixels((files.images / f"{object_id}.jpg").read_bytes()).shape == (424, 424, 3)


def test_invalid_defects_are_refused(tmp_path: Path) -> None:
    for defects, message in (({"melted": 1}, "melted"), ({"black": -1}, "-1"), ({"black": 9}, "9 defects for 4")):
        with pytest.raises(ValueError, match=message):
            synthetic.write_tables(tmp_path, 4, seed=0, defects=defects)
