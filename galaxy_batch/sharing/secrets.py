"""Search for what should not be shared: credentials, and locations on this machine."""

import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.errors import has_credentials, without_secrets
from galaxy_batch.rows import IMAGE_URI_COLUMN, catalog_schema
from galaxy_batch.storage.files import join, open_parquet

__all__ = ["first_image_uri", "secrets_in_rows", "secrets_in_text"]

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>\\]+")


def secrets_in_text(text: str) -> list[str]:
    """URIs of a text that have a user, a password, a signature or a token in them; shown without these."""
    return [without_secrets(uri) for uri in _URI.findall(text) if has_credentials(uri)]


def secrets_in_rows(catalog_uri: str, manifest: CatalogManifest) -> list[str]:
    """Names of the survey's own columns whose texts have credentials in them.

    Reads the text columns beyond those of `rows`, a row group at a time.
    """
    own = {field.name for field in catalog_schema(pa.string(), manifest.classes, (), manifest.questions, True)}
    left = {name for name, kind in manifest.schema.items() if name not in own and "string" in kind}
    guilty: set[str] = set()
    for file in manifest.files if left else ():
        with open_parquet(join(catalog_uri, file.path)) as parquet:
            for batch in parquet.iter_batches(columns=sorted(left - guilty)):
                guilty |= {name for name in batch.schema.names if _has_secret(batch[name])}
        if guilty == left:
            break
    return sorted(guilty)


def first_image_uri(catalog_uri: str, manifest: CatalogManifest) -> str | None:
    """The location of a cutout, as the catalog has it; None in a catalog without."""
    if IMAGE_URI_COLUMN.name not in manifest.schema:
        return None
    for file in manifest.files:
        with open_parquet(join(catalog_uri, file.path)) as parquet:
            for batch in parquet.iter_batches(columns=[IMAGE_URI_COLUMN.name]):
                known = batch.column(0).drop_null()
                if len(known):
                    return str(known[0])
    return None


def _has_secret(texts: Any) -> bool:
    if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
        return False
    suspect = texts.filter(pc.match_substring_regex(texts, "://.*[?@]"))
    return any(secrets_in_text(text) for text in suspect.to_pylist())
