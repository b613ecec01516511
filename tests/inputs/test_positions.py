from typing import Any

import astropy.units as u
import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import FK5, SkyCoord

from galaxy_batch.errors import InputError
from galaxy_batch.inputs.positions import declare, degrees, frame_name, swapped_rows
from tests.support.manifests import manifest_config

RA, DEC = 233.34214169, -0.41568961


def table(ra: Any, dec: Any, ra_declares: dict[str, str], dec_declares: dict[str, str]) -> pa.Table:
    columns = [pa.array(ra), pa.array(dec)]
    fields = [pa.field(n, c.type) for n, c in zip(("ra", "dec"), columns, strict=True)]
    declared = [declare(f, d) for f, d in zip(fields, (ra_declares, dec_declares), strict=True)]
    return pa.table(columns, schema=pa.schema(declared))


def read(ra: Any, dec: Any, ra_unit: str = "", dec_unit: str = "", **declares: str) -> list[float]:
    rows = table([ra], [dec], {"unit": ra_unit, **declares}, {"unit": dec_unit, **declares})
    return [float(values[0]) for values in degrees(rows, manifest_config("t"))]


@pytest.mark.parametrize(
    ("unit", "per_degree"),
    [
        ("", 1), ("deg", 1), ("degree", 1), ("Degrees", 1), ("degrees (J2000)", 1), ("---", 1),
        ("rad", np.pi / 180), ("RADIANS", np.pi / 180), ("mrad", np.pi / 0.18),
        ("arcmin", 60), ("arcsec", 3600), ("ARCSEC", 3600), ("mas", 3.6e6), ("uas", 3.6e9), ("marcsec", 3.6e6),
    ],
)  # fmt: skip
def test_declared_units_are_converted_to_degrees(unit: str, per_degree: float) -> None:
    assert read(RA * per_degree, DEC * per_degree, unit, unit) == pytest.approx([RA, DEC], rel=1e-14)


@pytest.mark.parametrize("unit", ["hourangle", "h", "hr", "hours", "HOURS"])
def test_hours_of_right_ascension_are_15_degrees(unit: str) -> None:
    assert read(RA / 15, DEC, unit, "deg") == pytest.approx([RA, DEC], rel=1e-14)


@pytest.mark.parametrize(
    ("unit", "key"), [("mag", "ra"), ("pixel", "ra"), ('"h:m:s"', "ra"), ("deg^2", "ra"), ("h", "dec")]
)
def test_units_that_are_no_angles_are_refused(unit: str, key: str) -> None:
    with pytest.raises(InputError, match=rf"manifest\.{key}_column = '{key}': .* unit as '{unit[:1]}"):
        read(RA, DEC, **{f"{key}_unit": unit})


@pytest.mark.parametrize("frame", ["", "icrs", "fk5", "fk5 2000", "j2000"])
def test_icrs_and_fk5_of_j2000_are_read(frame: str) -> None:
    assert read(RA, DEC, frame=frame) == [RA, DEC]


def test_fk5_of_j2000_is_icrs_within_40_milliarcseconds() -> None:
    random = np.random.default_rng(1)
    fk5 = SkyCoord(random.uniform(0, 360, 1000), random.uniform(-90, 90, 1000), unit="deg", frame=FK5())
    same_numbers = SkyCoord(fk5.ra, fk5.dec, frame="icrs")
    assert fk5.icrs.separation(same_numbers).max() < 0.04 * u.arcsec


@pytest.mark.parametrize("frame", ["fk4 1950", "fk4", "fk5 1975", "galactic", "ecl_fk5", "barycentrictrueecliptic"])
def test_other_frames_are_refused(frame: str) -> None:
    with pytest.raises(InputError, match=rf"manifest\.ra_column = 'ra': the table declares the frame '{frame}'; ICRS"):
        read(RA, DEC, frame=frame)


@pytest.mark.parametrize(
    ("ucd", "problem"),
    [("pos.galactic.lon", "the frame 'galactic'"), ("pos.eq.dec;meta.main", "are ra and dec swapped")],
)
def test_ucds_that_contradict_the_column_are_refused(ucd: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        degrees(table([RA], [DEC], {"ucd": ucd}, {}), manifest_config("t"))


@pytest.mark.parametrize(
    ("system", "equinox", "name"),
    [
        ("ICRS", None, "icrs"), ("eq_FK5", "J2000", "fk5 2000"), ("FK5 ", 2000.0, "fk5 2000"),
        ("eq_FK4", "B1950", "fk4 1950"),
        (None, 1950.0, "fk4 1950"), (None, 2000, "fk5 2000"), (None, None, ""), ("galactic", None, "galactic"),
        ("ICRS", 2000.0, "icrs"),
    ],
)  # fmt: skip
def test_frames_have_one_name(system: Any, equinox: Any, name: str) -> None:
    assert frame_name(system, equinox) == name


@pytest.mark.parametrize(
    "values",
    [
        [f"+{RA}", f" {RA} "],
        pa.array([RA, RA]).dictionary_encode(),
        pa.array([f"{RA}"] * 2, pa.string_view()),
        pa.array(["233.34214169"] * 2).cast(pa.decimal128(12, 8)),
    ],
    ids=["signs and blanks", "categorical", "text", "decimal"],
)
def test_numbers_of_any_type_are_read(values: Any) -> None:
    assert degrees(table(values, [DEC, None], {}, {}), manifest_config("t"))[0].tolist() == [RA, RA]


@pytest.mark.parametrize("value", ["12:30:00", "233,34", "deg", "12h30m"])
def test_text_that_is_no_number_is_shown(value: str) -> None:
    with pytest.raises(InputError, match=f"manifest.ra_column = 'ra': '{value}' is not a number: decimal degrees"):
        degrees(table(["1.5", value], [DEC, DEC], {}, {}), manifest_config("t"))


def test_rows_that_show_swapped_columns_are_counted() -> None:
    ra, dec = np.array([5.0, 5, 200, np.nan, -999, 5]), np.array([100.0, 20, 20, 100, 100, -999])
    assert swapped_rows(ra, dec).tolist() == [3, 1, 1]
