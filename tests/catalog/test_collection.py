"""The HATS collection around a catalog, and what the libraries that read it (hats, LSDB) make of it.

The tests with `hats` and `lsdb` are skipped where these are not installed: `uv sync --group hats` installs them.
"""

import dataclasses
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from galaxy_batch.catalog import hats, id_index
from galaxy_batch.catalog.collection import (
    COLLECTION,
    INDEX,
    CollectionFiles,
    collection_problem,
    collection_properties,
    margin_path,
    margin_pixel_of,
)
from galaxy_batch.catalog.files import MetadataFile, RowFile
from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.sky.healpix import pixels_at
from tests.support.skies import clumped_rows, publish_rows

# What hats and LSDB ask of pandas is being renamed there.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The inplace keyword")

MARGIN_ARCSEC = 10.0


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is in a collection."""

    release: str = "dr7"
    margin_arcsec: float = 0.0
    index: bool = False


def test_the_name_of_a_margin_is_its_width() -> None:
    assert margin_path(10.0, 3, 700) == "margin_10arcs/dataset/Norder=3/Dir=0/Npix=700.parquet"
    assert margin_path(2.5, 3, 700).startswith("margin_2.5arcs/")
    assert margin_pixel_of(margin_path(2.5, 3, 700)) == (3, 700)
    assert margin_pixel_of("margin_10arcs/dataset/Norder=3/Dir=0/Npix=x.parquet") is None


def test_a_collection_names_what_is_in_it() -> None:
    assert collection_properties(Settings()) == {}
    both = collection_properties(Settings(margin_arcsec=10.0, index=True))
    assert both == {
        "obs_collection": "dr7", "hats_primary_table_url": "catalog", "all_margins": "margin_10arcs",
        "default_margin": "margin_10arcs", "all_indexes": "object_id index_object_id", "default_index": "object_id",
    }  # fmt: skip
    assert collection_properties(Settings(index=True)).keys() == both.keys() - {"all_margins", "default_margin"}


def files_of(settings: Settings) -> CollectionFiles:
    """The list of the files of a collection with a margin and an index."""
    names = [f"margin_10arcs/{name}" for name in hats.METADATA_FILES if name != hats.SKYMAP]
    names += [f"{INDEX}/{name}" for name in (hats.PROPERTIES, hats.METADATA, hats.COMMON_METADATA)]
    return CollectionFiles(
        (RowFile(margin_path(settings.margin_arcsec, 3, 700), 1, 1, ""),),
        (RowFile(f"{INDEX}/dataset/index/part-000000.parquet", 1, 1, ""),),
        tuple(MetadataFile(name, 1, "") for name in [*names, COLLECTION]),
    )


def test_only_the_files_of_a_collection_may_be_listed() -> None:
    settings = Settings(margin_arcsec=10.0, index=True)
    files = files_of(settings)
    assert collection_problem(settings, files) is None
    assert collection_problem(Settings(), CollectionFiles()) is None
    for other in (
        Settings(),
        Settings(index=True),
        Settings(margin_arcsec=5.0, index=True),
        Settings(margin_arcsec=10.0),
    ):
        assert collection_problem(other, files)
    wrong = [
        dataclasses.replace(files, margin=files.margin * 2),
        dataclasses.replace(files, margin=(RowFile("margin_10arcs/../x.parquet", 1, 1, ""),)),
        dataclasses.replace(files, index=files.index * 2),
        dataclasses.replace(files, index=()),
        dataclasses.replace(files, others=files.others[1:]),
        dataclasses.replace(files, others=(*files.others, MetadataFile("../../x", 1, ""))),
    ]
    assert all(collection_problem(settings, each) for each in wrong)


def library(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed: uv sync --group hats")


@pytest.fixture(scope="module", params=[False, True], ids=["int64", "string"])
def rows(request: pytest.FixtureRequest) -> pa.Table:
    return clumped_rows(1200, seed=8, text_ids=request.param)


@pytest.fixture(scope="module")
def root(rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the collection."""
    library("lsdb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(id_index, "_SAMPLED", 0.2)
        folder = tmp_path_factory.mktemp("collection")
        return publish_rows(folder, rows, 500, 100, margin_arcsec=MARGIN_ARCSEC, index=True).parent


@pytest.fixture(scope="module")
def lsdb(root: Path) -> Any:
    import dask

    assert (root / COLLECTION).exists()
    with dask.config.set(scheduler="synchronous"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield library("lsdb")


def test_hats_finds_the_collection_valid(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    library("hats")
    from hats import read_hats
    from hats.io.validation import is_valid_collection

    with caplog.at_level(logging.WARNING):
        assert is_valid_collection(root, strict=True)
    assert not caplog.records
    opened = read_hats(root)
    assert (opened.default_margin, opened.default_index_field) == ("margin_10arcs", "object_id")
    manifest = require_manifest(str(root / "catalog"))
    margin = read_hats(opened.default_margin_catalog_dir)
    assert margin.catalog_info.margin_threshold == MARGIN_ARCSEC
    assert margin.catalog_info.total_rows == sum(file.rows for file in manifest.margin_files)
    index = read_hats(opened.default_index_catalog_dir)
    assert index.catalog_info.total_rows == manifest.rows - manifest.without_position


def test_ids_are_searched_by_the_index(root: Path, rows: pa.Table, lsdb: Any) -> None:
    placed = rows.filter(rows["ra"].is_valid())
    wanted = placed.take(pa.array([0, 5, 700, len(placed) - 1])).sort_by("object_id")
    ids = wanted["object_id"].to_pylist()
    searched = lsdb.open_catalog(root).id_search(values={"object_id": ids})
    assert len(searched.get_healpix_pixels()) <= len(ids)
    result = searched.compute().sort_values("object_id")
    assert result["object_id"].tolist() == ids
    assert result["ra"].tolist() == wanted["ra"].to_pylist()
    nowhere = rows.filter(rows["ra"].is_null())["object_id"][0].as_py()
    assert len(lsdb.open_catalog(root).id_search(values={"object_id": [ids[0], nowhere]}).compute()) == 1


def test_no_pair_is_lost_at_borders_and_without_the_margin_some_are(root: Path, rows: pa.Table, lsdb: Any) -> None:
    """A catalog of objects up to the margin's width from ours, on the left side, and brute force over all pairs."""
    rng, dec = np.random.default_rng(3), rows["dec"].fill_null(45).to_numpy()
    placed = rows.filter(pa.array((dec > 89) | (np.abs(dec) < 0.1)))  # the clumps
    ours = SkyCoord(placed["ra"].to_numpy() * u.deg, placed["dec"].to_numpy() * u.deg)
    angles, distances = (
        rng.uniform(0, 360, len(ours)) * u.deg,
        MARGIN_ARCSEC * np.sqrt(rng.random(len(ours))) * u.arcsec,
    )
    near = ours.directional_offset_by(angles, distances)
    frame = pd.DataFrame({"other_id": np.arange(len(near)), "ra": near.ra.deg, "dec": near.dec.deg})
    left = lsdb.from_dataframe(frame, catalog_name="other", ra_column="ra", dec_column="dec")
    nearest, apart, _ = near.match_to_catalog_sky(ours)
    wanted = {
        (number, placed["object_id"][at].as_py())
        for number, at in enumerate(nearest.tolist()) if apart[number].arcsec < MARGIN_ARCSEC
    }  # fmt: skip

    def pairs(right: Any) -> set[tuple[int, Any]]:
        names = {"suffixes": ("", "_ours"), "suffix_method": "overlapping_columns"}
        matches = left.crossmatch(right, radius_arcsec=MARGIN_ARCSEC, n_neighbors=1, **names).compute()
        assert len(matches) == matches["other_id"].nunique()
        return set(zip(matches["other_id"].tolist(), matches["object_id"].tolist(), strict=True))

    assert pairs(lsdb.open_catalog(root)) == wanted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LSDB says that there is no margin
        lost = wanted - pairs(lsdb.open_catalog(root / "catalog"))
    assert len(lost) > 3
    inner = {
        file: hats.pixel_of(str(file.relative_to(root / "catalog")))
        for file in root.glob("catalog/dataset/**/*.parquet")
    }
    pixel_of = {
        i: pixel
        for file, pixel in inner.items()
        for i in pq.read_table(file, partitioning=None)["object_id"].to_pylist()
    }
    for number, object_id in lost:
        order, pixel = pixel_of[object_id] or (0, -1)
        assert pixels_at(near.ra.deg[[number]], near.dec.deg[[number]], order)[0] != pixel
