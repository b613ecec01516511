"""Tables in VOTable files (Ochsenbein et al. 2019), also as a TAP service sends them."""

import logging
from collections.abc import Sequence
from typing import IO, Any

import pyarrow as pa
from astropy.io import votable
from astropy.io.votable.tree import FieldRef, TableElement, VOTableFile

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.astropy_columns import arrow_table
from galaxy_batch.inputs.columns import check_columns
from galaxy_batch.inputs.positions import frame_name

__all__ = ["declared_by_votable", "read_votable"]

logger = logging.getLogger(__name__)


def read_votable(file: IO[bytes], uri: str, config: ManifestConfig, wanted: Sequence[str]) -> pa.Table:
    """The wanted columns of a table: the only one, or the one that the config names.

    Columns are called by the names of their FIELDs, as TOPCAT shows them, or by their IDs.
    """
    document = votable.parse(file, verify="ignore")
    _check_status(document, uri)
    table = _choose(list(document.iter_tables()), uri, config.table)
    names = [field.name for field in table.fields]
    ids = {field.name: field.ID for field in table.fields}
    check_columns(names, config, uri, optional=set(ids.values()) - ids.keys())
    rows = table.to_table()
    columns = {name: rows[ids.get(name, name)] for name in wanted}
    return arrow_table(columns, {}, declared_by_votable(document, table), config)


def declared_by_votable(document: VOTableFile, table: TableElement) -> dict[str, dict[str, Any]]:
    """Unit, UCD and frame of each FIELD, by ID and by name."""
    frames = {system.ID: frame_name(system.system, system.equinox) for system in document.iter_coosys()}
    grouped = {
        entry.ref: frames[group.ref]
        for group in table.iter_groups()
        for entry in group.entries
        if isinstance(entry, FieldRef) and group.ref in frames
    }
    declared = [
        {"unit": field.unit, "ucd": field.ucd, "frame": frames.get(field.ref) or grouped.get(field.ID)}
        for field in table.fields
    ]
    by_id = {field.ID: about for field, about in zip(table.fields, declared, strict=True)}
    return by_id | {field.name: about for field, about in zip(table.fields, declared, strict=True)}


def _check_status(document: VOTableFile, uri: str) -> None:
    """Refuse the error of a server (DALI 1.1, section 4.4) with its own text; warn of a table that it cut off."""
    for info in document.iter_info():
        if info.name == "QUERY_STATUS" and info.value == "ERROR":
            raise InputError("manifest.uri", uri, f"the server answered the query with an error: {info.content}")
        if info.name == "QUERY_STATUS" and info.value == "OVERFLOW":
            logger.warning("%s is not complete: the server cut it off at its row limit (QUERY_STATUS OVERFLOW)", uri)


def _choose(tables: Sequence[TableElement], uri: str, wanted: str | None) -> TableElement:
    named = ", ".join(f"{n} {table.name or table.ID or ''}".strip() for n, table in enumerate(tables, 1))
    if not tables:
        raise InputError("manifest.uri", uri, "a VOTable file without a table")
    if wanted is None:
        if len(tables) > 1:
            raise InputError("manifest.uri", uri, f'has several tables: {named}; name one, e.g. manifest.table = "1"')
        return tables[0]
    chosen = [table for n, table in enumerate(tables, 1) if wanted in (str(n), table.name, table.ID)]
    if len(chosen) != 1:
        raise InputError("manifest.table", wanted, f"not the number, name or ID of one table in {uri}; it has {named}")
    return chosen[0]
