"""Positions in ICRS degrees, from columns whose units and frames the table declares.

Readers put what a table declares of a column into the metadata of its Arrow field: `unit`, `ucd` and `frame`. A column
that declares no unit is in degrees; one that declares no frame is in ICRS.
"""

import contextlib
import re
from collections.abc import Mapping

import astropy.units as u
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.plain_types import is_text, plain

__all__ = ["declare", "degrees", "frame_name", "swapped_rows", "usable_positions"]

_HOURS = {"h", "hr", "hrs", "hour", "hours", "hourangle", "hour angle"}  # of right ascension: 15 degrees each
_DEGREES = re.compile(r"deg(ree)?s?\.?(\s*[(\[].*|\s+J2000.*)?", re.IGNORECASE)  # also "degrees (J2000)"
_UNDECLARED = {"", "-", "--", "---", "none", "null", "unknown", "unitless"}
_FRAMES_OF_UCDS = ("pos.galactic", "pos.ecliptic", "pos.supergalactic")

Degrees = npt.NDArray[np.float64]


def declare(field: pa.Field, declared: Mapping[str, object]) -> pa.Field:
    """The field with entries such as `unit`, `ucd` and `frame` added to its metadata; empty ones are left out."""
    entries = {key: str(value) for key, value in declared.items() if value not in (None, "")}
    known = {key.decode(): value.decode("utf-8", "replace") for key, value in (field.metadata or {}).items()}
    return field.with_metadata({**known, **entries}) if entries else field


def degrees(table: pa.Table, config: ManifestConfig) -> tuple[Degrees, Degrees]:
    """Right ascension and declination as the table has them, converted to degrees; NaN where null.

    Raises:
        InputError: names the column: not numbers, an unusable unit, or a frame other than ICRS and FK5 J2000.
    """
    if config.ra_column is None or config.dec_column is None:
        return np.full(len(table), np.nan), np.full(len(table), np.nan)
    return _angles(table, "ra_column", config.ra_column), _angles(table, "dec_column", config.dec_column)


def usable_positions(ra: Degrees, dec: Degrees) -> tuple[Degrees, Degrees]:
    """Right ascension in [0, 360) and declination; NaN in both where either is missing or out of range."""
    with np.errstate(invalid="ignore"):
        usable = (ra >= -180) & (ra <= 360) & (np.abs(dec) <= 90)  # false for NaN and for sentinels such as -999
    wrapped = np.where(ra < 0, ra + 360, ra)
    wrapped = np.where(wrapped >= 360, 0.0, wrapped)
    return np.where(usable, wrapped, np.nan), np.where(usable, dec, np.nan)


def swapped_rows(ra: Degrees, dec: Degrees) -> npt.NDArray[np.int64]:
    """Rows with both numbers, rows that make sense only if the columns are swapped, and rows only if they are not."""
    with np.errstate(invalid="ignore"):
        both = (ra >= -180) & (ra <= 360) & (dec >= -180) & (dec <= 360)
        swapped = both & (np.abs(ra) <= 90) & (np.abs(dec) > 90)
        straight = both & (np.abs(ra) > 90) & (np.abs(dec) <= 90)
    return np.array([both.sum(), swapped.sum(), straight.sum()], np.int64)


def frame_name(system: object, equinox: object = None) -> str:
    """One name of a frame, e.g. `fk5 1975`, from a system (`eq_FK5`, `ICRS`) and an equinox (`J1975`, 1975.0)."""
    name = str(system or "").strip().lower().removeprefix("eq_")
    number = re.search(r"\d+(\.\d+)?", str(equinox if equinox is not None else ""))
    year = f"{float(number[0]):g}" if number else ""
    if not name and year:
        name = "fk5" if float(year) >= 1984 else "fk4"  # FITS Standard 4.0, section 8.3
    return f"{name} {year}".strip() if name.startswith("fk") else name


def _angles(table: pa.Table, key: str, name: str) -> Degrees:
    metadata = table.schema.field(name).metadata or {}
    unit, ucd, frame = (metadata.get(k, b"").decode("utf-8", "replace").strip() for k in (b"unit", b"ucd", b"frame"))
    _check_frame(key, name, frame, ucd.lower())
    scale = _degrees_per(key, name, unit)
    values = _numbers(table[name], name)
    return values if scale == 1 else values * scale


def _check_frame(key: str, name: str, frame: str, ucd: str) -> None:
    """ICRS, or FK5 J2000, whose axes agree within 0.04 arcseconds (Mignard & Froeschle 2000, A&A 354, 732)."""
    other = next((start.removeprefix("pos.") for start in _FRAMES_OF_UCDS if ucd.startswith(start)), frame)
    if other and not other.startswith(("icr", "barycentric icr")) and other not in ("fk5", "fk5 2000", "j2000"):
        remedy = "ICRS is needed: convert the positions, e.g. with astropy's SkyCoord or TOPCAT, and name those columns"
        raise InputError(f"manifest.{key}", name, f"the table declares the frame {other!r}; {remedy}")
    if (key == "ra_column" and ucd.startswith("pos.eq.dec")) or (key == "dec_column" and ucd.startswith("pos.eq.ra")):
        raise InputError(f"manifest.{key}", name, f"the table declares it as {ucd}: are ra and dec swapped?")


def _degrees_per(key: str, name: str, unit: str) -> float:
    if unit.lower() in _UNDECLARED or _DEGREES.fullmatch(unit):
        return 1.0
    if key == "ra_column" and unit.lower() in _HOURS:
        return 15.0
    for spelling in (unit, unit.lower(), unit.lower().removesuffix("s")):
        with contextlib.suppress(u.UnitConversionError, ValueError, TypeError):
            return float(u.Unit(spelling, parse_strict="silent").to(u.deg))
    remedy = f"the table declares its unit as {unit!r}, which is not an angle: positions in degrees are needed"
    raise InputError(f"manifest.{key}", name, remedy)


def _numbers(column: pa.ChunkedArray, name: str) -> Degrees:
    column = plain(column)
    kind = column.type
    if is_text(kind):
        column = pc.utf8_ltrim(pc.utf8_trim_whitespace(column), "+")
    try:
        return np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        wrong = next((v for v in column.to_pylist() if not _is_number(v)), None) if is_text(kind) else None
        problem = f"of type {kind}" if wrong is None else f"{wrong!r} is not a number"
        raise InputError("manifest.ra_column", name, f"{problem}: decimal degrees are needed") from None


def _is_number(text: str | None) -> bool:
    try:
        pa.scalar(text, pa.string()).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True
