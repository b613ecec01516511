import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from galaxy_batch.config import ManifestConfig, RgbConfig
from galaxy_batch.cutouts.decode import decode
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.columns import contains_images
from galaxy_batch.inputs.flux_arrays import band_names, fits_files, flux_leaves, is_flux
from galaxy_batch.inputs.manifest import open_manifest
from galaxy_batch.inputs.parquet import open_parquet_table
from galaxy_batch.rows import UnusableCutout
from tests.support.manifests import manifest_rows

BANDS = ["DES-G", "DES-R", "DES-I", "DES-Z"]
RED_FIRST = ("DES-Z", "DES-R", "DES-G")
PLANE = pa.list_(pa.list_(pa.float32()))

Pixels = npt.NDArray[np.float32]


class Array2D(pa.ExtensionType):
    """Arrays as an extension type, as the `datasets` package of Hugging Face stores them."""

    def __init__(self) -> None:
        super().__init__(PLANE, "datasets.features.features.Array2DExtensionType")

    def __arrow_ext_serialize__(self) -> bytes:
        return b"4, 5, float32"

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> "Array2D":
        return cls()


FLUX_TYPES = {
    "struct": pa.list_(PLANE),
    "large": pa.large_list(pa.large_list(pa.large_list(pa.float64()))),
    "fixed": pa.list_(pa.list_(pa.list_(pa.float32(), 5), 4), 4),
    "extension": pa.list_(Array2D()),
}


def pixels(rows: int, height: int = 4, width: int = 5) -> Pixels:
    """``(rows, bands, height, width)``."""
    return np.random.default_rng(0).normal(size=(rows, len(BANDS), height, width)).astype(np.float32)


def images(values: Pixels, layout: str = "struct") -> pa.Array:
    """An image column as catalogs have it: a struct of lists, or a list of structs."""
    rows: list[Any] = [
        {"band": BANDS, "flux": row.tolist(), "ivar": row.tolist(), "scale": [0.262] * 4} for row in values
    ]
    if layout == "list":
        return pa.array(
            [[{key: value[n] for key, value in row.items()} for n in range(4)] for row in rows],
            pa.list_(pa.struct([("band", pa.string()), ("flux", PLANE), ("ivar", PLANE), ("scale", pa.float32())])),
        )
    kinds = {
        "band": pa.list_(pa.string()),
        "flux": pa.list_(PLANE),
        "ivar": pa.list_(PLANE),
        "scale": pa.list_(pa.float32()),
    }
    columns = {key: pa.array([row[key] for row in rows], kind) for key, kind in kinds.items()}
    columns["flux"] = columns["flux"].cast(FLUX_TYPES[layout])
    return pa.StructArray.from_arrays(list(columns.values()), names=list(columns))


def config_for(path: Path, **settings: Any) -> ManifestConfig:
    return ManifestConfig(str(path), image_column="image", **{"image_bands": RED_FIRST, **settings})


@pytest.mark.parametrize("layout", ["list", *FLUX_TYPES])
def test_bands_become_fits_images_in_the_wanted_order(layout: str) -> None:
    values = pixels(3)
    column = pa.chunked_array([images(values, layout)]).slice(1)
    assert is_flux(column.type)
    assert band_names(column) == BANDS
    files = fits_files(column, RED_FIRST).to_pylist()
    assert len(files) == 2
    for content, row in zip(files, values[1:], strict=True):
        with fits.open(io.BytesIO(content)) as stored:
            stored.verify("exception")
            assert np.array_equal([hdu.data for hdu in stored], row[[3, 1, 0]])


def test_an_array_is_drawn_as_its_fits_file() -> None:
    """The first row is the bottom one, and the first of three images is red."""
    values = np.zeros((1, 4, 64, 64), np.float32)
    values[0, 3, :16] = 5  # z, the red one, at the bottom
    (content,) = fits_files(pa.chunked_array([images(values)]), RED_FIRST).to_pylist()
    written = io.BytesIO()
    bands = values[0, [3, 1, 0]]
    fits.HDUList([fits.PrimaryHDU(bands[0]), *map(fits.ImageHDU, bands[1:])]).writeto(written)
    drawn = decode(content, 10_000, RgbConfig(scale=(1, 1, 1)))
    assert np.array_equal(drawn, decode(written.getvalue(), 10_000, RgbConfig(scale=(1, 1, 1))))
    assert drawn[0, -1].min() > 100
    assert not drawn[0, 0].any()
    assert not drawn[2].any()


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        ({"band": ["DES-Z", "DES-R"], "flux": [[[1.0]], [[1.0]]]}, "bands in this file: 2; three are needed"),
        ({"band": ["DES-Z"], "flux": []}, "bands in this file: 0; three are needed"),
        ({"band": BANDS, "flux": [[[1.0], [1.0, 2.0]]] * 4}, "bands in this file: 0"),
        ({"band": BANDS, "flux": [[[1.0]], [[1.0, 2.0]], None, [[1.0, 2.0]]]}, "bands of different sizes"),
        ({"band": BANDS, "flux": [[[None]]] * 4}, "100% of the pixels of the red band have no value"),
    ],
)
def test_an_image_without_three_good_bands_is_unreadable(image: dict[str, Any], problem: str) -> None:
    kind = pa.struct([("band", pa.list_(pa.string())), ("flux", FLUX_TYPES["struct"])])
    (content,) = fits_files(pa.chunked_array([pa.array([image], kind)]), RED_FIRST).to_pylist()
    with pytest.raises(UnusableCutout, match=problem):
        decode(content, 10_000)


def test_a_row_without_an_image_has_none() -> None:
    kind = images(pixels(1)).type
    column = pa.chunked_array([pa.array([None, {"band": None, "flux": None}, {"band": [], "flux": []}], kind)])
    assert fits_files(column, RED_FIRST).to_pylist() == [None, None, None]
    assert band_names(column) == []


def test_other_columns_are_no_arrays_of_fluxes() -> None:
    assert not is_flux(pa.list_(pa.list_(pa.list_(pa.uint8()))))
    assert not is_flux(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    assert not is_flux(pa.struct([("band", pa.list_(pa.string())), ("flux", pa.list_(pa.float32()))]))  # light curves
    assert not is_flux(pa.struct([("band", pa.string()), ("flux", pa.list_(PLANE))]))


@pytest.mark.parametrize("layout", ["struct", "list"])
def test_only_bands_and_fluxes_are_read(tmp_path: Path, layout: str) -> None:
    pq.write_table(pa.table({"object_id": ["a", "b"], "image": images(pixels(2), layout)}), tmp_path / "t.parquet")
    with open_parquet_table(str(tmp_path / "t.parquet")) as table:
        names = [table.file.schema.column(number).path for number in range(len(table.file.schema))]
        assert len(flux_leaves(names, "image", ("band", "flux"))) == 2 < len(names) - 1
        kind = table.read([0], ["image"])["image"].type
        assert is_flux(kind)
        assert "ivar" not in str(kind)
        assert table.bands("image") == BANDS


@pytest.mark.parametrize("layout", ["struct", "list", "extension"])
def test_chunks_within_a_row_group_have_their_own_images(tmp_path: Path, layout: str) -> None:
    values = pixels(300)
    table = pa.table({"object_id": [f"g{n}" for n in range(300)], "image": images(values, layout)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=250)
    config = config_for(tmp_path / "t.parquet")
    rows = manifest_rows(config, chunk_rows=170)
    assert rows["object_id"].to_pylist() == table["object_id"].to_pylist()
    for number in (0, 127, 128, 169, 170, 249, 250, 299):
        with fits.open(io.BytesIO(rows["_image_bytes"][number].as_py())) as stored:
            assert np.array_equal(stored[0].data, values[number, 3])


def test_the_bands_are_part_of_the_content(tmp_path: Path) -> None:
    pq.write_table(pa.table({"object_id": [1], "image": images(pixels(1))}), tmp_path / "t.parquet")
    config = config_for(tmp_path / "t.parquet")
    other = config_for(tmp_path / "t.parquet", image_bands=("DES-Z", "DES-I", "DES-G"))
    assert open_manifest(config, 10).content_id == open_manifest(config, 10).content_id
    assert open_manifest(config, 10).content_id != open_manifest(other, 10).content_id


@pytest.mark.parametrize("bands", [(), ("z", "r", "g")])
def test_the_error_names_the_bands_that_are_there(tmp_path: Path, bands: tuple[str, ...]) -> None:
    pq.write_table(pa.table({"object_id": [1], "image": images(pixels(1))}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match="name three bands of 'image', the reddest first; it has DES-G, DES-R, DES-I"):
        open_manifest(config_for(tmp_path / "t.parquet", image_bands=bands), 10)


@pytest.mark.parametrize("kind", [pa.string(), pa.binary(), pa.struct([("bytes", pa.binary())])])
def test_bands_of_other_images_are_refused(tmp_path: Path, kind: pa.DataType) -> None:
    with pytest.raises(InputError, match=r"manifest\.image_bands .*: only for an image_column of"):
        contains_images(pa.schema([("image", kind)]), config_for(tmp_path))
