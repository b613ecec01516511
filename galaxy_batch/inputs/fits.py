"""Tables in FITS files."""

import logging
import warnings
from collections.abc import Iterable
from typing import IO, Any

import pyarrow as pa
from astropy.io import fits
from astropy.table import Table
from astropy.utils.exceptions import AstropyWarning

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.astropy_columns import arrow_table, simple_columns
from galaxy_batch.inputs.columns import check_columns

__all__ = ["read_fits"]

logger = logging.getLogger(__name__)


def read_fits(file: IO[bytes], uri: str, config: ManifestConfig, wanted: Iterable[str]) -> pa.Table:
    """The wanted columns of a table: the one that the config names, else the first."""
    with fits.open(file) as hdus, warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)  # of odd units and cards, in columns that nobody reads
        hdu = _choose(hdus, uri, config.table)
        header = hdu.header
        table = simple_columns(Table.read(hdu, format="fits"))
        check_columns(table.colnames, config, f"{uri} (HDU {hdus.index(hdu)})")
        ucds = {hdu.columns[n].name: {"ucd": header.get(f"TUCD{n + 1}")} for n in range(len(hdu.columns))}
        return arrow_table({name: table[name] for name in wanted}, table.meta, ucds, config)


def _choose(hdus: fits.HDUList, uri: str, wanted: str | None) -> Any:
    tables = {n: hdu for n, hdu in enumerate(hdus) if isinstance(hdu, (fits.BinTableHDU, fits.TableHDU))}
    named = ", ".join(f"{n} {hdu.name}".strip() for n, hdu in tables.items())
    if not tables:
        raise InputError("manifest.uri", uri, "a FITS file without a table")
    if wanted is None:
        first = next(iter(tables))
        if len(tables) > 1:
            logger.warning("%s has several tables (%s): HDU %d is read, see manifest.table", uri, named, first)
        return tables[first]
    chosen = [hdu for n, hdu in tables.items() if wanted in (str(n), hdu.name) or wanted.upper() == hdu.name]
    if len(chosen) != 1:
        raise InputError("manifest.table", wanted, f"not the number or name of one table in {uri}; it has {named}")
    return chosen[0]
