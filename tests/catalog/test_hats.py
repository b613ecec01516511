"""The files of HATS, and what the libraries that read them (hats, LSDB) make of a whole catalog.

`hats` and `lsdb` bring Dask and numba, and are not installed with the other packages that the tests need: where they
are absent, the tests that need them are skipped. `uv sync --group hats` installs them.
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from galaxy_batch.catalog import hats
from galaxy_batch.sky.healpix import Tile
from tests.support.skies import even_positions, publish_rows, sky_rows

# What hats and LSDB ask of pandas is being renamed there.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The inplace keyword")

ROWS = 8000


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    """An uneven sky: half of it in a clump around the north pole and another across RA 0."""
    rng = np.random.default_rng(7)
    ra, dec = even_positions(ROWS, rng)
    ra[1000:3000], dec[1000:3000] = rng.uniform(0, 360, 2000), 90 - np.abs(rng.normal(0, 0.5, 2000))
    ra[3000:5000], dec[3000:5000] = rng.normal(0, 0.2, 2000) % 360, rng.normal(0, 0.2, 2000)
    return sky_rows(ROWS, seed=7, positions=(ra, dec), without_position=0.03)


@pytest.fixture(scope="module")
def catalog(rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_rows(tmp_path_factory.mktemp("hats") / "release=r" / "model=m", rows, 1000, 300, 2500)


@pytest.fixture(scope="module")
def on_sky(rows: pa.Table) -> pa.Table:
    return rows.filter(rows["ra"].is_valid())


def test_paths_and_pixels_name_each_other() -> None:
    assert hats.tile_path(7, 123_456) == "dataset/Norder=7/Dir=120000/Npix=123456.parquet"
    for order, pixel in ((0, 0), (0, 11), (7, 123_456), (10, 12 * 4**10 - 1)):
        assert hats.pixel_of(hats.tile_path(order, pixel)) == (order, pixel)


@pytest.mark.parametrize(
    "path",
    [
        "dataset/Norder=0/Dir=0/Npix=12.parquet",
        "dataset/Norder=7/Dir=0/Npix=123456.parquet",
        "dataset/Norder=07/Dir=0/Npix=1.parquet",
        "dataset/Norder=30/Dir=0/Npix=1.parquet",
        "without_position/part-000000.parquet",
        "dataset/Norder=0/Dir=0/Npix=1.parquet.part",
        "",
    ],
)
def test_other_paths_are_no_pixels(path: str) -> None:
    assert hats.pixel_of(path) is None


def test_properties_come_back() -> None:
    entries = {"obs_collection": "dr7", "hats_nrows": 3, "prov_progenitor": "s3://a=b/c\\d", "t": "two\nlines é"}
    content = hats.properties(entries)
    assert content.decode().startswith("#HATS catalog\nobs_collection=dr7\n")
    assert hats.read_properties(content) == {
        "obs_collection": "dr7", "hats_nrows": "3", "prov_progenitor": "s3://a=b/c\\d", "t": "two lines é",
    }  # fmt: skip
    with pytest.raises(ValueError, match="not an entry: garbage"):
        hats.read_properties(b"# x\n\ngarbage\n")


def test_partition_info_comes_back() -> None:
    tiles = [Tile(0, 3, 5), Tile(2, 190, 7)]
    assert hats.partition_info(tiles) == b"Norder,Npix,num_rows\n0,3,5\n2,190,7\n"
    assert hats.read_partition_info(hats.partition_info(tiles)) == tiles


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "its columns are"),
        (b"Npix,Norder,num_rows\n", "its columns are Npix"),
        (b"Norder,Npix,num_rows\n1,2\n", "not a line of it: 1,2"),
        (b"Norder,Npix,num_rows\n1,2,x\n", "invalid literal"),
    ],
)
def test_other_tables_are_no_partition_info(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hats.read_partition_info(content)


def test_a_skymap_comes_back() -> None:
    counts = np.random.default_rng(1).integers(0, 2**40, 12 * 4**3)
    assert np.array_equal(hats.read_skymap(hats.skymap(counts)), counts)


@pytest.mark.filterwarnings("ignore:File may have been truncated")
@pytest.mark.parametrize("size", [0, 1, 2880, 8000])
def test_half_a_skymap_is_none(size: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        hats.read_skymap(hats.skymap(np.ones(12 * 4**3, np.int64))[:size])


def test_properties_say_how_the_sky_was_cut() -> None:
    properties = hats.describe("dr7", [Tile(0, 3, 5), Tile(2, 190, 7)], 10, 98 * 1024 + 1)
    assert properties["hats_nrows"] == 12
    assert properties["hats_order"] == 2
    assert properties["hats_estsize"] == 99
    assert float(str(properties["moc_sky_fraction"])) == pytest.approx((1 + 1 / 16) / 12)
    assert hats.describe("dr7", [], 10, 0)["hats_order"] == 0


def test_metadata_has_the_footers_of_all_files(catalog: Path) -> None:
    merged = pq.read_metadata(catalog / hats.METADATA)
    by_path: dict[str, int] = {}
    for number in range(merged.num_row_groups):
        group = merged.row_group(number)
        path = group.column(0).file_path
        by_path[path] = by_path.get(path, 0) + group.num_rows
    files = sorted((catalog / "dataset").glob("**/*.parquet"))
    assert by_path == {str(f.relative_to(catalog / "dataset")): pq.read_metadata(f).num_rows for f in files}
    assert len(files) > 30
    read = ds.parquet_dataset(catalog / hats.METADATA).to_table()
    assert len(read) == sum(by_path.values())


def test_readers_that_know_nothing_of_hats_get_every_row(catalog: Path, rows: pa.Table, on_sky: pa.Table) -> None:
    everywhere, nowhere = f"{catalog}/**/*.parquet", f"{catalog}/without_position/*.parquet"
    query = "SELECT object_id, predicted_class FROM '{}' ORDER BY object_id"
    wanted = list(zip(rows["object_id"].to_pylist(), rows["predicted_class"].to_pylist(), strict=True))
    assert duckdb.sql(query.format(everywhere)).fetchall() == wanted
    assert len(duckdb.sql(query.format(nowhere)).fetchall()) == len(rows) - len(on_sky)
    assert len(duckdb.sql(query.format(f"{catalog}/dataset/**/*.parquet")).fetchall()) == len(on_sky)
    frame = pd.read_parquet(catalog / "dataset")
    assert sorted(frame["object_id"]) == on_sky["object_id"].to_pylist()
    assert (
        frame["predicted_class"].notna().all()
        or frame["predicted_class"].isna().sum() == on_sky["predicted_class"].null_count
    )


def library(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed: uv sync --group hats")


@pytest.fixture(scope="module")
def opened(catalog: Path) -> Any:
    lsdb = library("lsdb")
    import dask

    with dask.config.set(scheduler="synchronous"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield lsdb.open_catalog(catalog)


def test_hats_finds_the_catalog_valid(
    catalog: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path, on_sky: pa.Table
) -> None:
    library("hats")
    from hats import read_hats
    from hats.io import skymap
    from hats.io.validation import is_valid_catalog

    with caplog.at_level(logging.WARNING):
        assert is_valid_catalog(catalog, strict=True)
    assert not caplog.records
    opened = read_hats(catalog)
    assert opened.catalog_info.total_rows == len(on_sky)
    assert opened.catalog_info.catalog_name == "made-up"
    assert skymap.read_skymap(opened, 2).sum() == len(on_sky)
    orders = {pixel.order for pixel in opened.get_healpix_pixels()}
    assert {0, 1} & orders
    assert max(orders) >= 5


def test_hats_sees_every_column_with_its_header(catalog: Path) -> None:
    library("hats")
    from hats import read_hats

    schema = read_hats(catalog).schema
    assert schema.names == pq.read_schema(next(catalog.glob("dataset/**/*.parquet"))).names
    assert b"IVOA.VOTable-Parquet.content" in schema.metadata


def test_lsdb_reads_every_row_as_it_is(opened: Any, on_sky: pa.Table) -> None:
    assert len(opened) == len(on_sky)
    frame = opened.compute().sort_values("object_id")
    assert frame["object_id"].tolist() == on_sky["object_id"].to_pylist()
    assert frame.index.tolist() == on_sky["_healpix_29"].to_pylist()
    for name in ("predicted_class", "status", "confidence", "review_flags", "image_hash"):
        read = frame[name].astype(object).where(frame[name].notna(), None).tolist()
        wanted = on_sky[name].to_pylist()
        if name == "review_flags":  # REPEATED_IMAGE was added
            read, wanted = [flags & ~32 for flags in read], [flags & ~32 for flags in wanted]
        assert read == wanted, name


def separations(on_sky: pa.Table, ra: float, dec: float) -> npt.NDArray[np.float64]:
    places = SkyCoord(on_sky["ra"].to_numpy() * u.deg, on_sky["dec"].to_numpy() * u.deg)
    return np.asarray(places.separation(SkyCoord(ra * u.deg, dec * u.deg)).arcsec)


@pytest.mark.parametrize(
    ("ra", "dec", "radius_arcsec"),
    [(0, 90, 1800), (123, 89.9, 3600), (200, -90, 36_000), (0, 0, 600), (359.95, 0.05, 900), (45, 20, 30_000)],
)
def test_cone_searches_find_what_a_search_of_all_rows_finds(
    opened: Any, on_sky: pa.Table, ra: float, dec: float, radius_arcsec: float
) -> None:
    wanted = separations(on_sky, ra, dec) <= radius_arcsec
    assert wanted.sum() > 3
    in_cone = opened.cone_search(ra=ra, dec=dec, radius_arcsec=radius_arcsec).compute()
    assert sorted(in_cone["object_id"]) == on_sky.filter(pa.array(wanted))["object_id"].to_pylist()


def test_a_crossmatch_finds_what_a_search_of_all_pairs_finds(opened: Any, on_sky: pa.Table) -> None:
    """Against a catalog of every third galaxy, a little displaced, some across the borders of pixels."""
    lsdb = library("lsdb")
    rng = np.random.default_rng(3)
    some = on_sky.slice(0).take(np.arange(0, len(on_sky), 3))
    dec = np.clip(some["dec"].to_numpy() + rng.normal(0, 1 / 3600, len(some)), -90, 90)
    ra = (some["ra"].to_numpy() + rng.normal(0, 1 / 3600, len(some))) % 360
    other = pd.DataFrame({"other_id": np.arange(len(some)), "ra": ra, "dec": dec})
    right = lsdb.from_dataframe(other, catalog_name="other", margin_threshold=10, ra_column="ra", dec_column="dec")
    matches = opened.crossmatch(right, radius_arcsec=3, n_neighbors=1, suffix_method="all_columns").compute()
    left = SkyCoord(on_sky["ra"].to_numpy() * u.deg, on_sky["dec"].to_numpy() * u.deg)
    nearest, separation, _ = left.match_to_catalog_sky(SkyCoord(ra * u.deg, dec * u.deg))
    matched = separation.arcsec < 3
    assert matched.sum() > len(some) / 2
    wanted = set(zip(on_sky.filter(pa.array(matched))["object_id"].to_pylist(), nearest[matched].tolist(), strict=True))
    assert {(row["object_id_made-up"], row["other_id_other"]) for _, row in matches.iterrows()} == wanted
    assert len(matches) == len(wanted)


def test_a_catalog_without_any_position_is_still_one(tmp_path: Path) -> None:
    library("hats")
    from hats.io.validation import is_valid_catalog

    catalog = publish_rows(tmp_path, sky_rows(50, without_position=1.0))
    assert is_valid_catalog(catalog, strict=True)
