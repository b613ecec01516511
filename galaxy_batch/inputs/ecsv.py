"""ECSV tables (Astropy Proposal for Enhancement 6)."""

from collections.abc import Iterable
from typing import IO

import pyarrow as pa
from astropy.table import Table

from galaxy_batch.config import ManifestConfig
from galaxy_batch.inputs.astropy_columns import arrow_table, simple_columns
from galaxy_batch.inputs.columns import check_columns

__all__ = ["read_ecsv"]


def read_ecsv(file: IO[bytes], uri: str, config: ManifestConfig, wanted: Iterable[str]) -> pa.Table:
    """The wanted columns of an ECSV table."""
    table = simple_columns(Table.read(file, format="ascii.ecsv"))
    check_columns(table.colnames, config, uri)
    return arrow_table({name: table[name] for name in wanted}, table.meta, {}, config)
