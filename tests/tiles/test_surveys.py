"""The configs for SDSS frames and Legacy Surveys bricks, on simulated files with the published names and layout."""

import bz2
import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.table import Table

from galaxy_batch.config import CatalogConfig, ManifestConfig
from galaxy_batch.inputs.manifest import read_chunk
from galaxy_batch.settings import load_config, parse_config
from galaxy_batch.synthetic.tiles import TileSurveyFiles
from galaxy_batch.tiles.cutouts import read_cutouts
from galaxy_batch.tiles.grouping import open_by_tile
from tests.support.repository import REPOSITORY
from tests.support.tile_surveys import GALAXIES, tile_values


def cut(config: ManifestConfig) -> dict[int, tuple[str, int]]:
    """Status and hash of each cutout, by id."""
    chunks = open_by_tile(config, 100, None).chunks
    tables = [read_cutouts(read_chunk(chunk.as_table(), config), config, 1 << 30, 2) for chunk in chunks]
    rows = pa.concat_tables([table.select(["object_id", "status", "image_hash"]) for table in tables]).to_pylist()
    return {row["object_id"]: (row["status"], row["image_hash"]) for row in rows}


def own_tile(files: TileSurveyFiles) -> dict[int, str]:
    """The name of the tile of each object."""
    config = parse_config(ManifestConfig, tile_values(files))
    chunks = [read_chunk(chunk.as_table(), config) for chunk in open_by_tile(config, 100, None).chunks]
    rows = pa.concat_tables(chunks).select(["object_id", "_image_uri"]).to_pylist()
    return {row["object_id"]: Path(row["_image_uri"][0]).name.removesuffix("-i.fits") for row in rows}


def test_frames_of_sdss_are_named_by_the_columns_of_the_objects(tile_survey: TileSurveyFiles, tmp_path: Path) -> None:
    """frames/RERUN/RUN/CAMCOL/frame-r-RRRRRR-C-FFFF.fits.bz2, the sky-subtracted image first, tables behind it."""
    config = load_config(CatalogConfig, REPOSITORY / "jobs" / "configs" / "tiles_sdss.toml").manifest
    assert config.tiles is not None
    server = "https://data.sdss.org/sas/dr17/eboss/photoObj/"
    assert all(template.startswith(f"{server}frames/") for template in config.tiles.band_templates)
    local = tuple(template.replace(server, f"{tmp_path}/") for template in config.tiles.band_templates)
    tiles = own_tile(tile_survey)
    fields = {name: number + 39 for number, name in enumerate(sorted(set(tiles.values())))}
    for name, field in fields.items():
        for band in "irg":
            image = fits.PrimaryHDU(*fits.getdata(tile_survey.tiles / f"{name}-{band}.fits", header=True))
            sky = fits.BinTableHDU(Table({"ALLSKY": [np.zeros((4, 4), np.float32)]}))
            path = tmp_path / f"frames/301/1737/5/frame-{band}-001737-5-{field:04d}.fits.bz2"
            path.parent.mkdir(parents=True, exist_ok=True)
            fits.HDUList([image, fits.ImageHDU(np.ones(700, np.float32)), sky]).writeto(
                tmp_path / "frame.fits", overwrite=True
            )
            path.write_bytes(bz2.compress((tmp_path / "frame.fits").read_bytes(), 1))
    table = pacsv.read_csv(tile_survey.manifest)
    ids = table["object_id"].to_pylist()
    for column, value in (("run", 1737), ("rerun", 301), ("camcol", 5)):
        table = table.append_column(column, pa.array([value] * len(ids)))
    table = table.append_column("field", pa.array([fields[tiles[one]] for one in ids])).rename_columns(
        {"object_id": "objID"}
    )
    pq.write_table(table, tmp_path / "objects.parquet")
    own = dataclasses.replace(config.tiles, band_templates=local)
    found = cut(dataclasses.replace(config, uri=str(tmp_path / "objects.parquet"), tiles=own))
    values = tile_values(tile_survey, size_px=own.size_px)
    assert found == cut(parse_config(ManifestConfig, values))
    assert {status for status, _ in found.values()} == {"ok"}
    assert len(found) == GALAXIES


def test_bricks_of_the_legacy_surveys_are_found_by_their_table(tile_survey: TileSurveyFiles, tmp_path: Path) -> None:
    """coadd/BBB/BRICK/legacysurvey-BRICK-image-r.fits.fz: an empty primary HDU, and an image that is compressed."""
    config = load_config(CatalogConfig, REPOSITORY / "jobs" / "configs" / "tiles_legacy_surveys.toml").manifest
    assert config.tiles is not None
    tiles = pacsv.read_csv(tile_survey.table).to_pydict()
    bricks = [f"{round(ra * 10) % 3600:04d}p{number:03d}" for number, ra in enumerate(tiles["ra"])]
    for name, brick in zip(tiles["tile"], bricks, strict=True):
        for band, here in zip("zrg", "irg", strict=True):
            data, header = fits.getdata(tile_survey.tiles / f"{name}-{here}.fits", header=True)
            path = tmp_path / f"coadd/{brick[:3]}/{brick}/legacysurvey-{brick}-image-{band}.fits.fz"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = fits.CompImageHDU(data, header, compression_type="GZIP_2", quantize_level=0)  # exact
            fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)
    names = np.array(bricks, "S8")
    Table({"BRICKNAME": names, "RA": tiles["ra"], "DEC": tiles["dec"]}).write(tmp_path / "survey-bricks.fits.gz")
    table = pacsv.read_csv(tile_survey.manifest).rename_columns({"object_id": "id", "petroR90_r": "shape_r"})
    pq.write_table(table, tmp_path / "objects.parquet")
    changed = {"width_deg": tile_survey.tile_deg, "height_deg": tile_survey.tile_deg, "size_factor": 8.48}
    own = dataclasses.replace(config.tiles, table=str(tmp_path / "survey-bricks.fits.gz"), **changed)  # type: ignore[arg-type]
    found = cut(dataclasses.replace(config, uri=str(tmp_path / "objects.parquet"), tiles=own))
    values = tile_values(tile_survey, size_px=own.size_px)
    expected = cut(parse_config(ManifestConfig, values))
    assert found.keys() == expected.keys()
    assert sum(found[one] != expected[one] for one in found) <= 1  # equally deep in two tiles, to rounding
    assert {status for status, _ in found.values()} == {"ok"}
