"""A HATS collection with pictures in it, as Multimodal Universe publishes them, from manifest to published catalog."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

import galaxy_batch
from galaxy_batch.catalog.hats import properties, tile_path
from galaxy_batch.catalog.verify import verify_catalog
from galaxy_batch.errors import InputError
from galaxy_batch.pipeline import classify_release
from galaxy_batch.plan import plan_release
from galaxy_batch.sky.healpix import pixels_at
from galaxy_batch.synthetic.survey import SurveyFiles
from tests.support.configs import POSITIONS, catalog_config
from tests.support.models import SavedModel
from tests.support.skies import even_positions, read_catalog

ROWS = 24
_TILE_SHIFT = 2 * 29  # _healpix_29 to order 0


def write_collection(folder: Path, image: pa.Array) -> pa.Table:
    """A collection of a catalog with a margin cache, as hats-import lays it out; its rows, in the files' order."""
    ra, dec = even_positions(ROWS, np.random.default_rng(1))
    rows = pa.table({
        "_healpix_29": pa.array(pixels_at(ra, dec)), "image": image, "ra": ra, "dec": dec,
        "object_id": [str(10**17 + n) for n in range(ROWS)], "redshift": np.linspace(0, 0.2, ROWS).astype(np.float32),
    })  # fmt: skip
    names = {"obs_collection": "mmu", "hats_primary_table_url": "mmu", "default_margin": "mmu_10arcs"}
    folder.mkdir()
    (folder / "collection.properties").write_bytes(properties(names))
    for name, product in (("mmu", "object"), ("mmu_10arcs", "margin")):
        tiles = np.array(rows["_healpix_29"]) >> _TILE_SHIFT
        for tile in np.unique(tiles).tolist():
            path = folder / name / tile_path(0, tile)
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(rows.filter(pa.array(tiles == tile)), path)
        (folder / name / "hats.properties").write_bytes(properties({"dataproduct_type": product, "hats_nrows": ROWS}))
        pq.write_table(rows.slice(0, 2), folder / name / "dataset" / "data_thumbnail.parquet")
        pq.write_metadata(rows.schema, folder / name / "dataset" / "_common_metadata")
        pq.write_metadata(rows.schema, folder / name / "dataset" / "_metadata")
    files = sorted(str(folder / "mmu" / tile_path(0, tile)) for tile in np.unique(tiles).tolist())
    return pa.concat_tables([pq.read_table(file, partitioning=None) for file in files])


@pytest.fixture
def pictures(survey: SurveyFiles) -> pa.Array:
    """Encoded cutouts as Hugging Face stores them; one row has none, another one that is damaged."""
    contents: list[bytes | None] = [file.read_bytes() for file in sorted(survey.images.iterdir())[:ROWS]]
    assert len(contents) == ROWS
    contents[3], contents[5] = None, b"no image"
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": content, "path": None} for content in contents], kind)


def test_a_collection_becomes_a_catalog(
    survey: SurveyFiles, saved_model: SavedModel, pictures: pa.Array, tmp_path: Path
) -> None:
    source = write_collection(tmp_path / "collection", pictures)
    manifest = {"uri": str(tmp_path / "collection"), "image_column": "image", "keep_columns": ["redshift"], **POSITIONS}
    plan = plan_release(catalog_config(survey, saved_model, tmp_path / "out", manifest=manifest))
    assert {chunk.uri for chunk in plan.manifest.chunks} == {str(p) for p in tmp_path.rglob("mmu/**/Npix=*.parquet")}
    summary = classify_release(plan, on_ray=False)
    assert verify_catalog(summary["catalog_uri"]) == []
    catalog = read_catalog(summary["catalog_uri"]).sort_by("object_id")
    source = source.sort_by("object_id")
    for name in ("object_id", "ra", "dec", "_healpix_29", "redshift"):
        assert catalog[name].to_pylist() == source[name].to_pylist()
    no_image, damaged = source["object_id"][3].as_py(), source["object_id"][5].as_py()
    status = dict(zip(catalog["object_id"].to_pylist(), catalog["status"].to_pylist(), strict=True))
    assert status == {**dict.fromkeys(status, "ok"), no_image: "missing", damaged: "unreadable"}


def test_arrays_of_fluxes_are_classified_as_the_same_bands_in_files(saved_model: SavedModel, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).gamma(0.5, 0.3, size=(ROWS, 4, 48, 48)).astype(np.float32)
    names = ["DES-G", "DES-R", "DES-I", "DES-Z"]
    plane = pa.list_(pa.list_(pa.list_(pa.float32())))
    image = pa.array(
        [{"band": names, "flux": bands.tolist(), "scale": [0.262] * 4} for bands in pixels],
        pa.struct([("band", pa.list_(pa.string())), ("flux", plane), ("scale", pa.list_(pa.float32()))]),
    )
    source = write_collection(tmp_path / "collection", image)
    for number, bands in enumerate(pixels):
        for name, band in zip("griz", bands, strict=True):
            fits.PrimaryHDU(band).writeto(tmp_path / f"{10**17 + number}-{name}.fits")
    pq.write_table(source.drop_columns(["image"]), tmp_path / "objects.parquet")
    settings: dict[str, Any] = {"image_column": "image", "image_bands": ["DES-Z", "DES-R", "DES-G"]}
    arrays = galaxy_batch.classify(tmp_path / "collection", saved_model.uri, **settings)
    templates = [f"{{object_id}}-{band}.fits" for band in "zrg"]
    files = galaxy_batch.classify(tmp_path / "objects.parquet", saved_model.uri, band_templates=templates)
    assert arrays["object_id"].to_pylist() == source["object_id"].to_pylist()
    assert set(arrays["status"].to_pylist()) == {"ok"}
    assert len(set(arrays["image_hash"].to_pylist())) == ROWS
    others = [name for name in arrays.column_names if name != "image_hash"]
    assert arrays.select(others).equals(files.select(others))


def test_a_folder_of_a_hats_catalog_without_an_image_column_says_so(tmp_path: Path, pictures: pa.Array) -> None:
    write_collection(tmp_path / "collection", pictures)
    with pytest.raises(InputError, match="it is a HATS catalog: set image_column"):
        galaxy_batch.classify(tmp_path / "collection")
