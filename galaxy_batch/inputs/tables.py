"""Whole tables: CSV, TSV, ECSV, FITS, VOTable and folders as Arrow tables of the columns that a manifest needs."""

import posixpath

import pyarrow as pa

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.inputs.columns import wanted_columns
from galaxy_batch.inputs.delimited import is_ecsv, read_delimited
from galaxy_batch.inputs.ecsv import read_ecsv
from galaxy_batch.inputs.fits import read_fits
from galaxy_batch.inputs.folder import read_folder
from galaxy_batch.inputs.votable import read_votable
from galaxy_batch.storage.files import filesystem

__all__ = ["read_table"]

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_READERS = {
    ".ecsv": read_ecsv,
    ".fits": read_fits,
    ".fit": read_fits,
    ".vot": read_votable,
    ".votable": read_votable,
    ".xml": read_votable,
}
_KNOWN = (".parquet", *_DELIMITERS, *_READERS)


def read_table(uri: str, config: ManifestConfig) -> pa.Table:
    """Read the wanted columns of a whole table; `.gz` and `.bz2` files are decompressed.

    The metadata of each field says what the table declares of it: `unit`, `ucd`, `frame`.

    Raises:
        InputError: no such file, an unknown ending, a file of another format, or a column that is missing or cannot
            be converted.
    """
    if config.lists_images:
        return read_folder(config)
    fs, path = filesystem(uri)
    name = path.lower().removesuffix(".gz").removesuffix(".bz2")
    ending = posixpath.splitext(name)[1]
    if ending not in _KNOWN[1:]:
        raise InputError("manifest.uri", uri, f"unknown file ending; known endings: {', '.join(_KNOWN)}")
    try:
        with fs.open(path, "rb", compression="infer") as file:
            if ending in _DELIMITERS:
                head = file.read(64)
                file.seek(0)
                if not is_ecsv(head):
                    return read_delimited(file, uri, config, _DELIMITERS[ending])
                ending = ".ecsv"
            return _READERS[ending](file, uri, config, wanted_columns(config))
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError("manifest.uri", uri, "no such file") from None
    except (pa.ArrowInvalid, ValueError, OSError, TypeError, IndexError, EOFError) as error:
        raise InputError("manifest.uri", uri, f"cannot be read as a {ending} table: {error}") from None
