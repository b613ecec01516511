"""Search for what should not be shared: credentials, and locations on this machine."""

import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.catalog.files import RowFile
from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.catalog.read_files import files_in_turn, row_groups
from galaxy_batch.errors import has_credentials, without_secrets
from galaxy_batch.rows import IMAGE_URI_COLUMN, catalog_schema

__all__ = ["first_image_uri", "secrets_in_rows", "secrets_in_text"]

_TEXT_TYPE = re.compile(r"\b(large_)?(string|binary)|\bfixed_size_binary")
_SEARCHABLE = ("string", "large_string", "binary", "large_binary")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>\\]+")


def secrets_in_text(text: str) -> list[str]:
    """URIs of a text that have a user, a password, a signature or a token in them; shown without these."""
    return [without_secrets(uri) for uri in _URI.findall(text) if has_credentials(uri)]


def secrets_in_rows(catalog_uri: str, manifest: CatalogManifest) -> list[str]:
    """Names of the survey's own columns with credentials in their texts, also in those of lists and structs.

    Reads the columns beyond those of `rows` that have texts, a row group at a time.

    Raises:
        InputError: a file is missing or damaged.
    """
    own = {field.name for field in catalog_schema(pa.string(), manifest.classes, (), manifest.questions, True)}
    left = {name for name, kind in manifest.schema.items() if name not in own and _TEXT_TYPE.search(kind)}
    guilty: set[str] = set()

    def search(_: int, file: RowFile) -> set[str]:
        groups = row_groups(catalog_uri, file, sorted(left))
        return {name for _, rows in groups for name in rows.column_names if _has_secret(rows[name])}

    for of_file in files_in_turn(manifest.files if left else (), "looking for credentials", search):
        guilty |= of_file
        if guilty == left:
            break
    return sorted(guilty)


def first_image_uri(catalog_uri: str, manifest: CatalogManifest) -> str | None:
    """The location of a cutout, as the catalog has it; None in a catalog without. Raises as `secrets_in_rows`."""
    if not manifest.has_image_uri:
        return None
    for file in manifest.files:
        for _, rows in row_groups(catalog_uri, file, [IMAGE_URI_COLUMN.name]):
            known = rows[IMAGE_URI_COLUMN.name].drop_null()
            if len(known):
                return str(known[0])
    return None


def _has_secret(column: pa.ChunkedArray) -> bool:
    return any(
        secrets_in_text(text if isinstance(text, str) else text.decode("latin-1"))
        for chunk in column.chunks
        for texts in _texts(chunk)
        for text in texts.filter(pc.match_substring_regex(texts, "://.*[?@]")).to_pylist()
    )


def _texts(values: pa.Array) -> Iterator[pa.Array]:
    """The texts and bytes in an array, also those in lists, structs, maps and dictionaries."""
    kind = values.type
    if str(kind) in _SEARCHABLE:
        yield values
    elif pa.types.is_fixed_size_binary(kind) or str(kind) in ("string_view", "binary_view"):
        yield from _texts(values.cast(pa.binary()))
    elif pa.types.is_dictionary(kind):
        yield from _texts(values.dictionary)
    elif pa.types.is_struct(kind):
        yield from (texts for field in values.flatten() for texts in _texts(field))
    elif pa.types.is_map(kind):
        yield from (texts for part in (values.keys, values.items) for texts in _texts(part))
    elif pa.types.is_nested(kind):
        yield from _texts(values.flatten())
