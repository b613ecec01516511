import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from galaxy_batch.errors import InputError
from tests.support.manifests import manifest_config, manifest_rows

IDS, RA, DEC = np.array([1237648720693755918, 5]), np.array([10.5, 359.5]), np.array([-0.5, 61.0])


def table(*more: fits.Column, name: str | None = None, ra: Any = RA, unit: str | None = None) -> fits.BinTableHDU:
    columns = [
        fits.Column("objid", "K", array=IDS), fits.Column("ra", "D", array=ra, unit=unit),
        fits.Column("dec", "D", array=DEC),
    ]  # fmt: skip
    return fits.BinTableHDU.from_columns([*columns, *more], name=name)


def write(folder: Path, *hdus: Any) -> Path:
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(folder / "t.fits", overwrite=True)
    return folder / "t.fits"


@pytest.mark.parametrize(
    ("unit", "factor"), [("deg", 1.0), ("hourangle", 15.0), ("rad", 180 / np.pi), ("arcsec", 1 / 3600)]
)
def test_units_are_converted(tmp_path: Path, unit: str, factor: float) -> None:
    rows = manifest_rows(manifest_config(write(tmp_path, table(ra=RA / factor, unit=unit))))
    assert rows["ra"].to_pylist() == pytest.approx(RA.tolist())


@pytest.mark.parametrize(
    ("cards", "usable"),
    [
        ({"RADESYS": "ICRS"}, True), ({"RADESYS": "FK5"}, True), ({"RADECSYS": "FK5", "EQUINOX": 2000.0}, True),
        ({"RADESYS": "FK4"}, False), ({"RADESYS": "FK5", "EQUINOX": 1975.0}, False), ({"EQUINOX": 1950.0}, False),
        ({"TUCD2": "pos.galactic.lon"}, False),
    ],
)  # fmt: skip
def test_frames_other_than_icrs_are_refused(tmp_path: Path, cards: dict[str, Any], usable: bool) -> None:
    hdu = table()
    hdu.header.update(cards)
    config = manifest_config(write(tmp_path, hdu))
    if usable:
        assert manifest_rows(config)["ra"].to_pylist() == RA.tolist()
    else:
        with pytest.raises(InputError, match=r"manifest\.ra_column = 'ra': the table declares the frame"):
            manifest_rows(config)


def test_only_wanted_columns_are_converted(tmp_path: Path) -> None:
    latin = fits.Column("observer", "8A", array=np.array([b"Lund\xe9n", b"x"]))
    path = write(tmp_path, table(latin, fits.Column("moment", "C", array=np.ones(2, np.complex64))))
    assert manifest_rows(manifest_config(path))["object_id"].to_pylist() == IDS.tolist()
    for name in ("observer", "moment"):
        with pytest.raises(InputError, match=rf"manifest\.keep_columns = '{name}': a column of type .* cannot be used"):
            manifest_rows(manifest_config(path, keep_columns=(name,)))


def test_kept_columns_stay_exact(tmp_path: Path) -> None:
    big = np.array([2**63 + 7, 5], np.uint64)
    path = write(
        tmp_path,
        table(fits.Column("spec", "K", bzero=2**63, array=big), fits.Column("field", "7A", array=["0000003", "7"])),
    )
    rows = manifest_rows(manifest_config(path, keep_columns=("spec", "field")))
    assert rows["spec"].to_pylist() == [str(value) for value in big.tolist()]
    assert rows["field"].to_pylist() == ["0000003", "7"]


def test_one_of_several_tables_is_chosen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, fits.ImageHDU(np.zeros((2, 2))), table(name="FIRST"), table(name="SECOND", ra=RA / 2))
    with caplog.at_level(logging.WARNING):
        assert manifest_rows(manifest_config(path))["ra"].to_pylist() == RA.tolist()
    assert "several tables (2 FIRST, 3 SECOND): HDU 2 is read, see manifest.table" in caplog.text
    for chosen in ("second", "SECOND", "3"):
        assert manifest_rows(manifest_config(path, table=chosen))["ra"].to_pylist() == (RA / 2).tolist()
    with pytest.raises(InputError, match=r"manifest\.table = '1': not the number or name .* it has 2 FIRST"):
        manifest_rows(manifest_config(path, table="1"))


def test_a_file_without_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a FITS file without a table"):
        manifest_rows(manifest_config(write(tmp_path)))
