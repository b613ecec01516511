"""Cutouts from tiles: the pixels of the tile, one row for each object whatever is wrong with a tile."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
from astropy.io import fits
from PIL import Image

from galaxy_batch.config import ClassifyConfig, ManifestConfig, RgbConfig
from galaxy_batch.cutouts.decode import decode
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.manifest import open_manifest, read_chunk
from galaxy_batch.model.classifier import Classifier
from galaxy_batch.packing.config import PackConfig
from galaxy_batch.rows import Status, UnusableCutout
from galaxy_batch.settings import parse_config
from galaxy_batch.synthetic.galaxies import draw_galaxy
from galaxy_batch.synthetic.rendering import observe
from galaxy_batch.synthetic.tiles import TILE_RGB, TileSurveyFiles
from galaxy_batch.tiles import cutouts
from galaxy_batch.tiles.cubes import Cubes
from galaxy_batch.tiles.cutouts import read_cutouts
from galaxy_batch.tiles.grouping import group_by_tile
from tests.support.configs import POSITIONS
from tests.support.tile_surveys import GALAXIES, tile_values, write_tile


def cut_all(values: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """All rows of a manifest after the stage, by id."""
    config = parse_config(ManifestConfig, values)
    manifest = group_by_tile(open_manifest(config, 7), config, 7, None)
    tables = [
        read_cutouts(read_chunk(chunk.as_table(), config), config, max_bytes=1 << 30, requests_per_host=2)
        for chunk in manifest.chunks
    ]
    for table in tables:
        assert not {"_image_uri", "_side_arcsec"} & set(table.column_names)
    rows = pa.concat_tables(tables).to_pylist()
    assert len({row["object_id"] for row in rows}) == len(rows)
    return {row["object_id"]: row for row in rows}


def test_the_pixels_of_a_cutout_are_those_of_its_tile(tile_survey: TileSurveyFiles) -> None:
    """Cut with the tile's own pixels, each cutout is the image that was put there, but for the step at a seam."""
    ids = pacsv.read_csv(tile_survey.manifest)["object_id"].to_pylist()
    for index in (0, 9, 23):
        galaxy = draw_galaxy(index, 5)
        rows = cut_all(tile_values(tile_survey, size_px=galaxy.side_px))
        row = rows[ids[index]]
        assert (row["status"], row["error"], row["empty_fraction"]) == ("ok", None, 0.0)
        cube = fits.HDUList.fromstring(row["_image_bytes"])[0].data
        expected = observe(galaxy, index, 5)[::-1, ::-1]  # i, r, g; the bottom row first
        assert np.abs(cube - expected).max() < 0.02 * np.abs(expected).max()
        assert np.median(np.abs(cube - expected)) < 0.003


def test_the_class_is_that_of_the_same_image_without_tiles(tile_survey: TileSurveyFiles) -> None:
    """Resampled by Pillow, as FITS cutouts of their own; with the checkpoint that ships."""
    count, size = 12, 128
    ids = pacsv.read_csv(tile_survey.manifest)["object_id"].to_pylist()[:count]
    rows = cut_all(tile_values(tile_survey, size_px=size))
    alone = Cubes(count, size)
    for index in range(count):
        for number, image in enumerate(observe(draw_galaxy(index, 5), index, 5)[::-1]):  # i, r, g
            pixels = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
            alone.set_band(np.array([index]), number, pixels[None])
    contents = alone.column(np.ones(count, bool)).to_pylist() + [rows[i]["_image_bytes"] for i in ids]
    config = parse_config(ClassifyConfig, {"rgb": TILE_RGB})
    classifier = Classifier("builtin:gz2-smooth-featured", config, 1, "torch", "fp32", 1)
    table = pa.table(
        {
            "_image_bytes": pa.array(contents, pa.large_binary()),
            "status": ["ok"] * 2 * count,
            "error": pa.nulls(2 * count, pa.string()),
        }
    )
    direct, cut = classifier(table)["p_featured"].to_numpy().reshape(2, count)
    assert ((direct > 0.5) == (cut > 0.5)).all()
    assert np.abs(direct - cut).max() < 0.2
    assert np.abs(direct - cut).mean() < 0.02


@pytest.fixture
def changed(tile_survey: TileSurveyFiles, tmp_path: Path) -> TileSurveyFiles:
    """A copy of the survey."""
    shutil.copytree(tile_survey.manifest.parent, tmp_path, dirs_exist_ok=True)
    return TileSurveyFiles(
        tmp_path / "objects.csv", tmp_path / "tiles", tmp_path / "tiles.csv", tile_survey.templates,
        tile_survey.tile_deg,
    )  # fmt: skip


def truncate(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def without_wcs(file: Path) -> None:
    fits.PrimaryHDU(np.ones((700, 700), np.float32)).writeto(file, overwrite=True)


def not_fits(file: Path) -> None:
    file.write_bytes(b"<html>404 not found</html>")


@pytest.mark.parametrize(
    ("damage", "status", "reason"),
    [
        (Path.unlink, "missing", "no such file"),
        (without_wcs, "unreadable", "WCS"),
        (not_fits, "unreadable", "green band of field000-r.fits: "),
    ],
)
def test_a_bad_band_costs_the_objects_of_its_tile_only(
    damage: Any, status: str, reason: str, changed: TileSurveyFiles
) -> None:
    """The tiles are given by a table, so that they are known whatever is in them."""
    values = tile_values(
        changed, table=str(changed.table), band_templates=[f"tiles/{{tile}}-{band}.fits" for band in "irg"],
        ra_column="ra", dec_column="dec", width_deg=changed.tile_deg, height_deg=changed.tile_deg,
    )  # fmt: skip
    good = cut_all(values)
    assert {row["status"] for row in good.values()} == {"ok"}
    damage(changed.tiles / "field000-r.fits")
    rows = cut_all(values)
    assert rows.keys() == good.keys()
    bad = {object_id: row for object_id, row in rows.items() if row["status"] != "ok"}
    assert 0 < len(bad) < GALAXIES
    for row in bad.values():
        assert row["status"] == status
        assert row["error"].startswith("green band of field000-r.fits: ")
        assert reason in row["error"]
        assert row["_image_bytes"] is None
        assert row["image_hash"] is None
        assert row["empty_fraction"] is None
    for object_id in rows.keys() - bad.keys():
        assert rows[object_id]["image_hash"] == good[object_id]["image_hash"]


def test_the_good_part_of_a_truncated_tile_is_used(changed: TileSurveyFiles) -> None:
    values = tile_values(changed)
    good = cut_all(values)
    truncate(changed.tiles / "field000-i.fits")
    rows = cut_all(values)
    bad = [row for row in rows.values() if row["status"] != "ok"]
    assert bad
    assert {row["status"] for row in bad} == {"unreadable"}
    assert all(row["error"].startswith("red band of field000-i.fits: truncated or damaged") for row in bad)
    config = parse_config(ManifestConfig, values)
    manifest = group_by_tile(open_manifest(config, 100), config, 100, None)
    own = read_chunk(manifest.chunks[0].as_table(), config)
    of_tile = [i for i, uris in zip(*(own[n].to_pylist() for n in ("object_id", "_image_uri")), strict=True)
               if uris[0].endswith("field000-i.fits")]  # fmt: skip
    assert 0 < len(bad) < len(of_tile)
    for object_id in set(rows) - {row["object_id"] for row in bad}:
        assert rows[object_id]["image_hash"] == good[object_id]["image_hash"]


def one_tile(folder: Path, objects: str, **tiles: Any) -> dict[str, Any]:
    """`[manifest]` with a tile of 60 arcseconds at ra 10, dec 5, and these rows."""
    for band in "irg":
        if not (folder / f"tile-{band}.fits").exists():
            write_tile(folder / f"tile-{band}.fits", (10.0, 5.0))
    (folder / "objects.csv").write_text(f"object_id,ra,dec,size\n{objects}")
    own = {"band_templates": [f"*-{band}.fits" for band in "irg"], "size_column": "size", "size_px": 20, **tiles}
    return {"uri": str(folder / "objects.csv"), **POSITIONS, "tiles": own}


def test_objects_without_a_cutout_say_why(tmp_path: Path) -> None:
    rows = cut_all(one_tile(tmp_path, "1,10,5,20\n2,11,5,20\n3,,,20\n4,10,5,\n5,10,5,-3\n6,10,5.0083,20\n"))
    assert (rows[1]["status"], rows[1]["empty_fraction"]) == ("ok", 0.0)
    assert (rows[2]["status"], rows[2]["error"]) == ("missing", "outside every tile")
    assert (rows[3]["status"], rows[3]["error"]) == ("missing", "no position at which a cutout could be cut")
    for bad in (4, 5):
        assert (rows[bad]["status"], rows[bad]["error"]) == ("missing", "no size: size has no number above 0")
    assert rows[6]["status"] == "ok"
    assert rows[6]["empty_fraction"] == pytest.approx(0.5, abs=0.06)


def test_holes_saturated_pixels_and_bands_of_another_shape(tmp_path: Path) -> None:
    values = one_tile(tmp_path, "1,10,5,20\n2,10.005,5,20\n")
    with fits.open(tmp_path / "tile-r.fits", mode="update") as file:
        file[0].data[:, :28] = np.nan  # the east
        file[0].data[25:35, 45:50] = np.inf
        file[0].data[25:35, 50:] = 3e38
    write_tile(tmp_path / "tile-g.fits", (10.0, 5.0), shape=(33, 43), scale_arcsec=2.0)
    rows = cut_all(values)
    assert rows[1]["status"] == "ok"
    assert rows[1]["empty_fraction"] == pytest.approx(0.4, abs=0.06)
    assert rows[2]["empty_fraction"] == 1.0
    with pytest.raises(UnusableCutout, match="100% of the pixels of the green band have no value"):
        decode(rows[2]["_image_bytes"], 10_000)
    cube = fits.HDUList.fromstring(rows[1]["_image_bytes"])[0].data
    assert np.nanmedian(cube[0]) == pytest.approx(1.0)
    assert np.nanmedian(cube[2]) == pytest.approx(0.25)  # of a pixel of the red band, which is a quarter
    assert decode(rows[1]["_image_bytes"], 10_000, RgbConfig()).shape == (3, 20, 20)


def test_surface_brightness_does_not_depend_on_the_size_of_the_cutout(tmp_path: Path) -> None:
    rows = cut_all(one_tile(tmp_path, "1,10,5,5\n2,10,5,40\n"))
    for row in rows.values():
        assert np.allclose(fits.HDUList.fromstring(row["_image_bytes"])[0].data, 1.0, atol=1e-5)


def test_a_band_without_a_file(tmp_path: Path) -> None:
    values = one_tile(tmp_path, "1,10,5,20\n2,20,5,20\n")
    for band in "ig":
        write_tile(tmp_path / f"other-{band}.fits", (20.0, 5.0))
    rows = cut_all(values)
    assert rows[1]["status"] == "ok"
    assert (rows[2]["status"], rows[2]["error"]) == (
        "missing", "green band of the tile of other-i.fits: there is no file of this band among those that are listed",
    )  # fmt: skip


def test_a_store_that_fails_is_asked_once_for_each_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = one_tile(tmp_path, "1,10,5,20\n2,10,5.001,20\n")
    asked = []

    def fail(bands: Any, *_: Any, **__: Any) -> Any:
        asked.append(len(bands))
        raise UnusableCutout(Status.UNREACHABLE, "TimeoutError")

    monkeypatch.setattr(cutouts, "cut_bands", fail)
    rows = cut_all(values)
    assert {(row["status"], row["error"]) for row in rows.values()} == {
        ("unreachable", "red band of tile-i.fits, or another band: TimeoutError")
    }
    assert asked == [3]


def test_a_hostile_wcs_costs_its_own_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = one_tile(tmp_path, "1,10,5,20\n")

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no convergence")

    monkeypatch.setattr(cutouts, "cut_bands", fail)
    (row,) = cut_all(values).values()
    assert (row["status"], row["error"]) == ("unreadable", "red band of tile-i.fits: RuntimeError: no convergence")


def test_cutouts_that_exceed_the_limit_are_refused_before_anything_is_read() -> None:
    values = {"output_uri": "/out", "max_image_bytes": 2000}
    tiles = {"band_templates": ["*i", "*r", "*g"], "side_arcsec": 10, "size_px": 100}
    manifest = {"uri": "objects.csv", **POSITIONS, "tiles": tiles}
    with pytest.raises(InputError, match=r"manifest.tiles.size_px = 100: a cutout has 123840 bytes, more than"):
        parse_config(PackConfig, {**values, "manifest": manifest})
