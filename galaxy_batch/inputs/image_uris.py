"""URIs of the cutouts, one per row or per band, from a template or a column of the manifest."""

import posixpath
import re
import string
from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError, without_credentials
from galaxy_batch.inputs.plain_types import is_binary, plain
from galaxy_batch.rows import NO_URI
from galaxy_batch.storage.files import join

__all__ = ["image_uris", "published_locations", "template_columns"]

# A value from the manifest may name a file in the template's folder or below, not above, and no control characters.
_HOSTILE = r"(^|[/\\])\.\.([/\\]|$)|[\x00-\x1f\x7f]"

_FORMAT = re.compile(r"0(\d{1,2})d?|\.(\d{1,2})")  # a number with leading zeros, or the first characters of a text


def template_columns(config: ManifestConfig) -> list[str]:
    """Names of the columns in the templates, e.g. `dr7objid` in `../images/{dr7objid}.jpeg`; empty without a template.

    Those of tiles are among them where the rows of the manifest name their tiles.

    Raises:
        InputError: unmatched braces, or a field with no name, or with a conversion or format.
    """
    if config.uri_template is not None:
        return _columns("manifest.uri_template", config.uri_template)
    templates, setting = config.band_templates, "manifest.band_templates"
    if config.tiles is not None and not config.tiles.are_listed:
        templates, setting = config.tiles.band_templates, "manifest.tiles.band_templates"
    return [name for template in templates for name in _columns(setting, template)]


def image_uris(
    table: pa.Table, config: ManifestConfig, folder: str, column: str | None = None
) -> pa.ChunkedArray | pa.Array:
    """Absolute URI of each row's cutout; null where the row has none or an unsafe one.

    With templates of three bands, a list of three per row, any of which may be null. Relative URIs are below `folder`,
    the manifest's, and so is the archive of `zip://{name}.jpg::images.zip`. NO_URI where the second table of a join has
    no row.

    Raises:
        InputError: a column of a template cannot be written as text.
    """
    joined = config.join.columns if config.join is not None else ()
    templates = config.band_templates if config.tiles is None else config.tiles.band_templates
    if not templates:
        return _uris(table, folder, config.uri_template or "{" + (column or config.image_column or "") + "}", joined)
    bands = [_uris(table, folder, template, joined).combine_chunks() for template in templates]
    order = np.arange(len(bands) * len(table)).reshape(len(bands), len(table)).T.ravel()  # by row, then band
    flat = pa.concat_arrays(bands).take(pa.array(order))
    return pa.ListArray.from_arrays(np.arange(0, len(flat) + 1, len(bands), dtype=np.int32), flat)


def published_locations(uris: pa.ChunkedArray | pa.Array | None, rows: int) -> pa.ChunkedArray:
    """The location of each cutout as a catalog has it: without credentials, null where there is none.

    Three bands are one text, separated by spaces, which are `%20` in each of them: every reader of catalogs knows text,
    while FITS and VOTable have no lists of texts of different lengths. Null where a band has none.

    Args:
        uris: as `image_uris`; None where the manifest holds the images.
        rows: their number.
    """
    if uris is None:
        return pa.chunked_array([pa.nulls(rows, pa.string())])
    table = pa.table({"uris": uris}).combine_chunks()
    column = table["uris"].combine_chunks() if len(table) else pa.array([], table["uris"].type)
    if not pa.types.is_list(column.type):
        return pa.chunked_array([_without_credentials(column)])
    bands = pc.replace_substring(_without_credentials(column.values), " ", "%20")
    return pa.chunked_array([pc.binary_join(pa.ListArray.from_arrays(column.offsets, bands), " ")])


def _without_credentials(uris: pa.Array) -> pa.Array:
    uris = pc.if_else(pc.equal(uris, NO_URI), None, uris)
    suspect = np.flatnonzero(
        pc.fill_null(pc.match_substring_regex(uris, "[?#@]"), False).to_numpy(zero_copy_only=False)
    )
    if not len(suspect):
        return uris
    cleaned = uris.to_pylist()
    for row in suspect.tolist():
        cleaned[row] = without_credentials(cleaned[row])
    return pa.array(cleaned, pa.string())


def _columns(field: str, template: str) -> list[str]:
    names = []
    try:
        for _, name, spec, conversion in string.Formatter().parse(template):
            if name is not None:
                if not name or conversion or set(name) & set(".[]") or (spec and not _FORMAT.fullmatch(spec)):
                    raise ValueError("write each column as {name}, {name:04d} (leading zeros) or {name:.3} (beginning)")
                names.append(name)
    except ValueError as error:
        raise InputError(field, template, str(error)) from None
    if not names:
        raise InputError(field, template, "contains no {column}: every object would have the same cutout")
    return names


def _uris(table: pa.Table, manifest_folder: str, template: str, joined: Collection[str]) -> pa.ChunkedArray:
    base, rest = _base(template, manifest_folder)
    hostile = _HOSTILE if template.startswith("{") else f"{_HOSTILE}|{'::' if '::' in template else '::.*://'}"
    pieces: list[pa.ChunkedArray | str] = []
    absent = pa.chunked_array([np.zeros(len(table), bool)])
    for text, name, spec, _ in string.Formatter().parse(rest):
        pieces.append(text)
        if name is not None:
            values = _texts(table[name], name)
            values = _formatted(values, spec or "")
            pieces.append(pc.if_else(pc.match_substring_regex(values, hostile), None, values))
            absent = pc.or_(absent, values.is_null()) if name in joined else absent
    named = pc.binary_join_element_wise(*[p for p in pieces if not isinstance(p, str) or p], "")
    absolute = pc.match_substring_regex(named, "^(/|[A-Za-z][A-Za-z0-9+.-]*://)")
    uris = pc.if_else(absolute, named, pc.binary_join_element_wise(base.rstrip("/"), named, "/"))
    return pc.if_else(absent, NO_URI, uris)


def _formatted(values: pa.ChunkedArray, spec: str) -> pa.ChunkedArray:
    """Texts with leading zeros (`04d`), or only their beginning (`.3`)."""
    match = _FORMAT.fullmatch(spec)
    if match is None:
        return values
    if match[1]:
        return pc.utf8_lpad(values, int(match[1]), "0")
    return pc.utf8_slice_codeunits(values, 0, int(match[2]))


def _base(template: str, manifest_folder: str) -> tuple[str, str]:
    """The folder that a template is in, and the rest of it."""
    if "::" in template:
        member, _, archive = template.rpartition("::")
        is_absolute = archive.startswith("/") or "://" in archive
        return "", f"{member}::{archive if is_absolute else _normal(join(manifest_folder, archive))}"
    head, _, _ = template.partition("{")
    folder, _, _ = head.rpartition("/")
    rest = template[len(folder) :].lstrip("/") if folder else template
    if template.startswith("/") or "://" in head:
        return template[: len(folder) + 1], rest
    return _normal(join(manifest_folder, folder)), rest


def _texts(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Values as they are written into URIs."""
    column = plain(column)
    try:
        if is_binary(column.type):
            return pc.utf8_rtrim(column.cast(pa.binary()).cast(pa.string()), "\0 ")
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise InputError("manifest.uri_template", name, f"type {column.type} cannot be part of a URI") from None


def _normal(uri: str) -> str:
    """`a/b/../c` as `a/c`, since object stores do not resolve `..`."""
    scheme, separator, path = uri.partition("://")
    return f"{scheme}://{posixpath.normpath(path)}" if separator else posixpath.normpath(uri)
