from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table
from astropy.time import Time

from galaxy_batch.errors import InputError
from tests.support.manifests import manifest_config, manifest_rows

RA, DEC = np.array([10.5, 359.5]), np.array([-0.5, 61.0])


def write(folder: Path, meta: Any = None, kind: type[Table] = Table, **columns: Any) -> Path:
    table = kind({"objid": [5, 6], "ra": RA, "dec": DEC, **columns}, meta=meta)
    table.write(folder / "t.ecsv", format="ascii.ecsv", overwrite=True)
    return folder / "t.ecsv"


@pytest.mark.parametrize("kind", [Table, QTable])
def test_units_are_converted(tmp_path: Path, kind: type[Table]) -> None:
    path = write(tmp_path, kind=kind, ra=(RA / 15) * u.hourangle, dec=(DEC * u.deg).to(u.rad))
    rows = manifest_rows(manifest_config(path))
    assert rows["ra"].to_pylist() == pytest.approx(RA.tolist())
    assert rows["dec"].to_pylist() == pytest.approx(DEC.tolist())


def test_coordinates_and_times_may_stand_beside(tmp_path: Path) -> None:
    coordinates, times = SkyCoord(RA, DEC, unit="deg"), Time([57000.5, 57001.25], format="mjd")
    path = write(tmp_path, coord=coordinates, obs=times)
    assert manifest_rows(manifest_config(path))["ra"].to_pylist() == RA.tolist()
    assert manifest_rows(manifest_config(path, keep_columns=("obs",)))["obs"].to_pylist() == [57000.5, 57001.25]
    with pytest.raises(InputError, match=r"'coord': no such column in .*; it has .*coord\.ra, coord\.dec, obs"):
        manifest_rows(manifest_config(path, keep_columns=("coord",)))


@pytest.mark.parametrize("frame", ["icrs", "fk5", "fk4", "galactic"])
def test_the_frame_of_coordinates_is_that_of_their_columns(tmp_path: Path, frame: str) -> None:
    path = write(tmp_path, coord=SkyCoord(RA, DEC, unit="deg", frame=frame))
    lon, lat = ("l", "b") if frame == "galactic" else ("ra", "dec")
    config = manifest_config(path, ra_column=f"coord.{lon}", dec_column=f"coord.{lat}")
    if frame in ("icrs", "fk5"):
        assert manifest_rows(config)["ra"].to_pylist() == RA.tolist()
    else:
        with pytest.raises(InputError, match=f"'coord.{lon}': the table declares the frame '{frame}"):
            manifest_rows(config)


def test_the_frame_of_the_table_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="declares the frame 'fk4"):
        manifest_rows(manifest_config(write(tmp_path, meta={"RADESYS": "FK4"})))
