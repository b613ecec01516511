"""The pass over all rows of a manifest: content hash, ids, types of kept columns, and checks of the whole."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.ids import id_hashes
from galaxy_batch.inputs.agreed_types import AgreedTypes
from galaxy_batch.inputs.columns import column_hashes, exact_ids, kept_columns
from galaxy_batch.inputs.files import is_parquet
from galaxy_batch.inputs.parquet import open_parquet_table
from galaxy_batch.inputs.positions import degrees, swapped_rows
from galaxy_batch.inputs.tables import read_table
from galaxy_batch.storage.disk_counter import DiskCounter

__all__ = ["ManifestScan", "check_unique"]

_MAX_REPEATED = 1024  # repeated ids to search for
_SHOWN_IDS = 10  # in an error
_SWAPPED_FRACTION = 0.01  # of the rows, at least: a few bad declinations do not show that columns are swapped


class ManifestScan:
    """Hash, ids and types of the manifest, collected in one pass with constant memory."""

    def __init__(self, config: ManifestConfig, ids: DiskCounter) -> None:
        self.config = config
        self.kept = tuple(kept_columns(config))
        self.digest = hashlib.sha256()
        self.ids = ids
        self.id_types: dict[pa.DataType, str] = {}
        """The first file of each type of the ids."""
        self.types = AgreedTypes()
        self.with_position = 0
        self.swapped = np.zeros(3, np.int64)

    def add(self, table: pa.Table, rows: pa.Table, file: str) -> None:
        """Take in rows of one file: `table` as it is stored, `rows` with the pipeline's columns."""
        self.types.add(rows, self.kept, file)
        self.id_types.setdefault(rows["object_id"].type, file)
        self.swapped += swapped_rows(*degrees(table, self.config))
        ids = id_hashes(rows["object_id"])
        self.ids.add(ids)
        self.with_position += len(rows) - rows["ra"].null_count
        for name in rows.column_names:
            self.digest.update(name.encode())
            self.digest.update((ids if name == "object_id" else column_hashes(rows[name])).tobytes())

    def check(self) -> None:
        """Refuse ids of two types, and columns of positions that are swapped.

        Raises:
            InputError: names the columns.
        """
        config = self.config
        if len(self.id_types) > 1:
            where = " and ".join(f"{kind} in {file}" for kind, file in self.id_types.items())
            remedy = f"{where}: use one type in all files, or integer_ids = true where all are whole numbers"
            raise InputError("manifest.id_column", config.id_column, remedy)
        both, swapped, straight = self.swapped.tolist()
        if swapped and not straight and swapped >= _SWAPPED_FRACTION * both:
            raise InputError(
                "manifest.ra_column",
                config.ra_column,
                f"{swapped} of {both} rows have a declination ({config.dec_column!r}) beyond 90 degrees, and no row a "
                f"right ascension ({config.ra_column!r}) beyond 90: the two columns seem to be swapped",
            )


def check_unique(hashes: DiskCounter, files: Sequence[str], folder: str, config: ManifestConfig) -> None:
    """Check that no id is repeated. Ids with equal hashes are read again, since texts may share a hash.

    Raises:
        InputError: names repeated ids, with their files and rows.
    """
    repeated = hashes.repeated()[:_MAX_REPEATED]
    if not len(repeated):
        return
    places = defaultdict[int | str, list[str]](list)
    for uri in files:
        row = 1
        for ids in _all_ids(uri, config):
            for n in np.flatnonzero(np.isin(id_hashes(ids), repeated)):
                file = "" if len(files) == 1 else f"{uri.removeprefix(folder).lstrip('/')} "
                places[ids[int(n)].as_py()].append(f"{file}row {row + n}")
            row += len(ids)
    if doubled := {value: rows for value, rows in places.items() if len(rows) > 1}:
        number = f"{'at least ' if len(repeated) == _MAX_REPEATED else ''}{len(doubled)}"
        more = f" and {len(doubled) - _SHOWN_IDS} more" if len(doubled) > _SHOWN_IDS else ""
        shown = ", ".join(f"{value} ({', '.join(rows[:3])})" for value, rows in list(doubled.items())[:_SHOWN_IDS])
        raise InputError(
            "manifest.id_column", config.id_column, f"{number} ids are in more than one row: {shown}{more}"
        )


def _all_ids(uri: str, config: ManifestConfig) -> Iterator[pa.ChunkedArray]:
    if not is_parquet(uri):
        yield exact_ids(read_table(uri, config)[config.id_column], config)
        return
    with open_parquet_table(uri) as parquet:
        for group in range(len(parquet.group_rows)):
            yield exact_ids(parquet.read([group], [config.id_column])[config.id_column], config)
