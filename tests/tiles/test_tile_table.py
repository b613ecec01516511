"""The tiles of a survey, from headers that are read once, and from tables."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from galaxy_batch.config import ManifestConfig, TilesConfig
from galaxy_batch.errors import InputError
from galaxy_batch.rows import Status, UnusableCutout
from galaxy_batch.settings import parse_config
from galaxy_batch.synthetic.tiles import TileSurveyFiles
from galaxy_batch.tiles import tile_table
from galaxy_batch.tiles.tile_table import TileTable, open_tile_table
from tests.support.tile_surveys import tile_values, write_tile


def config_of(folder: Path, **tiles: object) -> ManifestConfig:
    templates = tuple(f"*-{band}.fits" for band in "irg")
    own = TilesConfig(**{"band_templates": templates, "side_arcsec": 10.0, **tiles})  # type: ignore[arg-type]
    return ManifestConfig(str(folder / "objects.csv"), ra_column="ra", dec_column="dec", tiles=own)


def open_tiles(config: ManifestConfig, memory: Path | None = None) -> TileTable:
    table = open_tile_table(config, None if memory is None else str(memory))
    assert table is not None
    return table


def test_headers_are_read_once(tile_survey: TileSurveyFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = parse_config(ManifestConfig, tile_values(tile_survey))
    first = open_tiles(config, tmp_path)
    assert len(first.files) == 4
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(tile_table, "read_header", lambda uri: pytest.fail("read again"))
    again = open_tiles(config, tmp_path)
    assert again.content_id == first.content_id
    assert [tile.uris for tile in again.files] == [tile.uris for tile in first.files]
    ra, dec = np.array([0.0, 359.99]), np.array([30.0, 30.01])
    assert again.owners(ra, dec).tolist() == first.owners(ra, dec).tolist()


def test_a_tile_that_changes_is_read_again(tmp_path: Path) -> None:
    for band in "irg":
        write_tile(tmp_path / f"one-{band}.fits", (10.0, 5.0))
    before = open_tiles(config_of(tmp_path), tmp_path / "memory")
    for band in "irg":
        write_tile(tmp_path / f"one-{band}.fits", (11.0, 5.0))
    after = open_tiles(config_of(tmp_path), tmp_path / "memory")
    assert before.content_id != after.content_id
    assert [table.owners(np.array([11.0]), np.array([5.0])).tolist() for table in (before, after)] == [[-1], [0]]


def test_a_tile_without_a_usable_header_is_named_and_the_other_bands_are_tried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for band in "irg":
        write_tile(tmp_path / f"one-{band}.fits", (10.0, 5.0))
        (tmp_path / f"bad-{band}.fits").write_bytes(b"SIMPLE  =")
    (tmp_path / "one-i.fits").write_bytes(b"no header")
    table = open_tiles(config_of(tmp_path), tmp_path / "memory")
    assert [tile.uris[0] for tile in table.files] == [str(tmp_path / "one-i.fits")]
    assert "bad-g.fits" in table.unknown[0] or "bad-i.fits" in table.unknown[0]
    assert "1 tiles are not used" in caplog.text
    assert open_tiles(config_of(tmp_path), tmp_path / "memory").unknown == table.unknown


def test_a_store_that_does_not_respond_is_no_survey_with_fewer_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for band in "irg":
        write_tile(tmp_path / f"one-{band}.fits", (10.0, 5.0))

    def fail(uri: str) -> None:
        raise UnusableCutout(Status.UNREACHABLE, "TimeoutError")

    monkeypatch.setattr(tile_table, "read_header", fail)
    with pytest.raises(InputError, match="run again when the store responds"):
        open_tiles(config_of(tmp_path), tmp_path / "memory")
    assert not (tmp_path / "memory").exists()


def write_table(path: Path, **columns: object) -> Path:
    default = {"run": [94, 1737], "field": [7, 39], "ra": [10.0, 11.0], "dec": [5.0, 5.0]}
    pq.write_table(pa.table({**default, **columns}), path)
    return path


FRAMES = tuple(f"{band}/frame-{{run:06d}}-{{field:04d}}.fits" for band in "irg")


def test_a_table_of_tiles_with_footprints_reads_no_header(tmp_path: Path) -> None:
    table = write_table(tmp_path / "frames.parquet")
    config = config_of(
        tmp_path / "other", table=str(table), band_templates=FRAMES, ra_column="ra", dec_column="dec", width_deg=0.2,
        height_deg=0.1,
    )  # fmt: skip
    tiles = open_tiles(config)
    assert {tile.uris[1] for tile in tiles.files} == {
        str(tmp_path / f"r/frame-{name}.fits") for name in ("000094-0007", "001737-0039")
    }
    owners = tiles.owners(np.array([10.05, 11.09, 10.5, 10.0]), np.array([5.04, 5.0, 5.0, 5.06]))
    assert (owners[:2] >= 0).all()
    assert (owners[2:] == -1).all()
    assert tiles.files[owners[0]].uris[0] == str(tmp_path / "i/frame-000094-0007.fits")


def test_a_table_of_tiles_without_footprints_reads_the_headers(tmp_path: Path) -> None:
    table = write_table(tmp_path / "frames.parquet")
    for band in "irg":
        write_tile(tmp_path / f"{band}/frame-000094-0007.fits", (10.0, 5.0), angle_deg=30)
    tiles = open_tiles(config_of(tmp_path, table=str(table), band_templates=FRAMES))
    assert len(tiles.files) == 1
    assert len(tiles.unknown) == 1
    assert "no such file" in tiles.unknown[0]


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({"run": ["../../x", "1"]}, {}, r"manifest.tiles.table .*1 rows have no value"),
        ({"run": [94, 94], "field": [7, 7]}, {}, r"manifest.tiles.band_templates .*same files"),
        ({}, {"ra_column": "RA"}, r"manifest.tiles.ra_column = 'RA': no such column"),
        ({"ra": [10.0, None]}, {}, r"manifest.tiles.ra_column = 'ra': 1 tiles have no position \(the first is row 2\)"),
    ],
)
def test_tables_that_cannot_be_used(
    columns: dict[str, object], settings: dict[str, str], message: str, tmp_path: Path
) -> None:
    table = write_table(tmp_path / "frames.parquet", **columns)
    footprint = {"ra_column": "ra", "dec_column": "dec", "width_deg": 0.2, "height_deg": 0.1, **settings}
    with pytest.raises(InputError, match=message):
        open_tiles(config_of(tmp_path, table=str(table), band_templates=FRAMES, **footprint))


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"manifest.tiles.table = .*no such file"):
        open_tiles(config_of(tmp_path, table=str(tmp_path / "frames.csv"), band_templates=FRAMES))
