"""Rows grouped by tile: every row once, deterministic, tiles whole where they fit."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.manifest import Manifest, find_objects, open_manifest, read_chunk
from galaxy_batch.settings import parse_config
from galaxy_batch.synthetic.tiles import TileSurveyFiles
from galaxy_batch.tiles.grouping import group_by_tile, open_by_tile, with_tiles
from tests.support.configs import POSITIONS
from tests.support.tile_surveys import GALAXIES, tile_values


def grouped(config: ManifestConfig, rows: int = 7, memory: Path | None = None) -> Manifest:
    return group_by_tile(open_manifest(config, rows), config, rows, None if memory is None else str(memory))


def test_the_manifest_may_be_read_in_other_pieces(tile_survey: TileSurveyFiles) -> None:
    config = parse_config(ManifestConfig, tile_values(tile_survey))
    assert open_by_tile(config, 7, None) == grouped(config)


def all_rows(manifest: Manifest, config: ManifestConfig) -> list[pa.Table]:
    return [read_chunk(chunk.as_table(), config) for chunk in manifest.chunks]


def test_every_row_is_in_one_chunk_and_each_tile_in_few(tile_survey: TileSurveyFiles, tmp_path: Path) -> None:
    config = parse_config(ManifestConfig, {**tile_values(tile_survey), "keep_columns": ["petroR90_r"]})
    manifest = grouped(config, memory=tmp_path)
    tables = all_rows(manifest, config)
    assert [len(table) for table in tables] == [chunk.rows for chunk in manifest.chunks]
    assert max(chunk.rows for chunk in manifest.chunks) <= 7
    rows = pa.concat_tables(tables)
    given = pacsv.read_csv(tile_survey.manifest).sort_by("object_id")
    assert rows.sort_by("object_id")["object_id"].equals(given["object_id"])
    np.testing.assert_allclose(rows["_side_arcsec"].to_numpy(), 8.48 * rows["petroR90_r"].to_numpy())
    uris = [tuple(value) for value in rows["_image_uri"].to_pylist()]
    assert len(set(uris)) > 1
    assert sum(a != b for a, b in itertools.pairwise(uris)) == len(set(uris)) - 1  # consecutive
    again = grouped(config, memory=tmp_path)
    assert again == manifest
    assert [field.name for field in manifest.kept] == ["petroR90_r", "empty_fraction"]


def test_a_parquet_manifest_gives_the_same_chunks(tile_survey: TileSurveyFiles, tmp_path: Path) -> None:
    table = pacsv.read_csv(tile_survey.manifest)
    pq.write_table(table, tmp_path / "objects.parquet", row_group_size=5)
    values = tile_values(tile_survey)
    values["tiles"]["band_templates"] = [f"{tile_survey.tiles}/*-{band}.fits" for band in "irg"]
    one = parse_config(ManifestConfig, values)
    other = parse_config(ManifestConfig, {**values, "uri": str(tmp_path / "objects.parquet")})
    assert [c.inline for c in grouped(one).chunks] == [c.inline for c in grouped(other).chunks]


def test_the_content_id_depends_on_what_changes_values(tile_survey: TileSurveyFiles) -> None:
    base = tile_values(tile_survey)
    ids = {
        grouped(parse_config(ManifestConfig, {**base, "tiles": {**base["tiles"], **change}})).content_id
        for change in ({}, {"size_px": 65}, {"north_up": True}, {"max_empty_fraction": 0.2}, {"size_factor": 8.0})
    }
    assert len(ids) == 5
    same = parse_config(ManifestConfig, {**base, "tiles": {**base["tiles"], "max_tile_bytes": 1 << 21}})
    assert grouped(same).content_id in ids


def test_chunks_are_limited_by_the_size_of_their_cutouts(tile_survey: TileSurveyFiles) -> None:
    config = parse_config(ManifestConfig, tile_values(tile_survey, size_px=4096))
    assert {chunk.rows for chunk in grouped(config, rows=100).chunks} == {1}
    assert config.tiles is not None
    assert config.tiles.cutout_bytes == 2880 * (1 + -(-3 * 4 * 4096**2 // 2880))


def test_rows_that_name_their_tiles(tmp_path: Path) -> None:
    table = pa.table(
        {
            "object_id": [1, 2, 3, 4, 5],
            "ra": [1.0] * 5,
            "dec": [2.0] * 5,
            "run": [94, 756, 94, 94, None],
            "field": [12, 7, 12, 7, 7],
        }
    )
    pq.write_table(table, tmp_path / "objects.parquet")
    templates = [f"frames/{{run}}/frame-{band}-{{run:06d}}-{{field:04d}}.fits.bz2" for band in "irg"]
    values: dict[str, Any] = {"uri": str(tmp_path / "objects.parquet"), **POSITIONS}
    config = parse_config(ManifestConfig, {**values, "tiles": {"band_templates": templates, "side_arcsec": 30}})
    rows = pa.concat_tables(all_rows(grouped(config), config))
    assert rows["object_id"].to_pylist() == [2, 4, 1, 3, 5]  # by URI; the one without is last
    assert rows["_image_uri"][1].as_py() == [
        f"{tmp_path}/frames/94/frame-{band}-000094-0007.fits.bz2" for band in "irg"
    ]
    assert rows["_image_uri"][4].as_py() is None
    assert rows["_side_arcsec"].to_pylist() == [30.0] * 5
    found = with_tiles(find_objects(config, pa.array([3])), config, None)
    assert found["_image_uri"][0].as_py() == rows["_image_uri"][2].as_py()


def test_objects_that_are_looked_up_get_their_tiles(tile_survey: TileSurveyFiles) -> None:
    config = parse_config(ManifestConfig, tile_values(tile_survey))
    rows = pa.concat_tables(all_rows(grouped(config), config))
    wanted = rows["object_id"].take(pa.array([3, 17]))
    found = with_tiles(find_objects(config, wanted.combine_chunks()), config, None)
    uris = dict(zip(rows["object_id"].to_pylist(), rows["_image_uri"].to_pylist(), strict=True))
    assert dict(zip(found["object_id"].to_pylist(), found["_image_uri"].to_pylist(), strict=True)) == {
        i: uris[i] for i in wanted.to_pylist()
    }
    assert len(rows) == GALAXIES


def test_the_files_of_a_tile_can_be_kept(tile_survey: TileSurveyFiles) -> None:
    config = parse_config(ManifestConfig, {**tile_values(tile_survey), "keep_image_uri": True})
    rows = pa.concat_tables(all_rows(grouped(config), config))
    assert rows["image_uri"].to_pylist() == [" ".join(uris) for uris in rows["_image_uri"].to_pylist()]


def test_manifests_without_tiles_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "objects.csv").write_text("object_id\n1\n2\n")
    config = ManifestConfig(str(tmp_path / "objects.csv"), uri_template="{object_id}.jpg")
    manifest = open_manifest(config, 10)
    assert group_by_tile(manifest, config, 10, None) is manifest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ra_column": "dec", "dec_column": "petroR90_r"}, "no object lies in one of the 4 tiles"),
        ({"keep_columns": ["petroR90_r as empty_fraction"]}, "has a column or path key 'empty_fraction'"),
    ],
)
def test_settings_that_cannot_be_right(changes: dict[str, Any], message: str, tile_survey: TileSurveyFiles) -> None:
    config = dataclasses.replace(
        parse_config(ManifestConfig, tile_values(tile_survey)),
        **{key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()},
    )
    with pytest.raises(InputError, match=message):
        grouped(config)


def test_a_size_column_of_text_is_refused(tile_survey: TileSurveyFiles, tmp_path: Path) -> None:
    (tmp_path / "objects.csv").write_text("object_id,ra,dec,petroR90_r\n1,0,30,large\n")
    values = {**tile_values(tile_survey), "uri": str(tmp_path / "objects.csv")}
    with pytest.raises(InputError, match=r"manifest\.tiles\.size_column = 'petroR90_r': of type string: numbers"):
        grouped(parse_config(ManifestConfig, values))
