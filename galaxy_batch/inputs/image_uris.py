"""Where each cutout is: a URI per row, or one per band, from a template or a column of the manifest."""

import posixpath
import string

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.config import ManifestConfig
from galaxy_batch.errors import InputError
from galaxy_batch.storage.files import join

__all__ = ["image_uris", "template_columns"]

# A value of the manifest may name a file below the template's folder, not climb out of it or hide control characters.
_HOSTILE = r"(^|[/\\])\.\.([/\\]|$)|[\x00-\x1f\x7f]"


def template_columns(config: ManifestConfig) -> list[str]:
    """Names of the columns in the templates, such as `../images/{dr7objid}.jpeg`; none where there is no template.

    Raises:
        InputError: braces that do not match, a field without a name, or with a conversion or format.
    """
    if config.uri_template is not None:
        return _columns("manifest.uri_template", config.uri_template)
    return [name for template in config.band_templates for name in _columns("manifest.band_templates", template)]


def image_uris(table: pa.Table, config: ManifestConfig, column: str | None = None) -> pa.ChunkedArray | pa.Array:
    """URI of each row's cutout, absolute; null where the row names none, or one that it may not name.

    With `band_templates`, a list of three for each row, any of which may be null.
    """
    if not config.band_templates:
        return _uris(table, config, config.uri_template or "{" + (column or config.image_column or "") + "}")
    bands = [_uris(table, config, template).combine_chunks() for template in config.band_templates]
    order = np.arange(len(bands) * len(table)).reshape(len(bands), len(table)).T.ravel()  # row by row
    flat = pa.concat_arrays(bands).take(pa.array(order))
    return pa.ListArray.from_arrays(np.arange(0, len(flat) + 1, len(bands), dtype=np.int32), flat)


def _columns(field: str, template: str) -> list[str]:
    names = []
    try:
        for _, name, spec, conversion in string.Formatter().parse(template):
            if name is not None:
                if not name or spec or conversion or set(name) & set(".[]"):
                    raise ValueError("write each column plainly, as {name}")
                names.append(name)
    except ValueError as error:
        raise InputError(field, template, str(error)) from None
    if not names:
        raise InputError(field, template, "names no column: every object would have the same cutout")
    return names


def _uris(table: pa.Table, config: ManifestConfig, template: str) -> pa.ChunkedArray:
    head, _, _ = template.partition("{")
    folder, _, _ = head.rpartition("/")
    rest = template[len(folder) :].lstrip("/") if folder else template
    base = (
        template[: len(folder) + 1]
        if template.startswith("/") or "://" in head
        else _normal(join(_folder(config.uri), folder))
    )
    pieces: list[pa.ChunkedArray | str] = []
    for text, name, _, _ in string.Formatter().parse(rest):
        pieces.append(text)
        if name is not None:
            values = table[name].cast(pa.string())
            pieces.append(pc.if_else(pc.match_substring_regex(values, _HOSTILE), None, values))
    named = pc.binary_join_element_wise(*[p for p in pieces if not isinstance(p, str) or p], "")
    absolute = pc.match_substring_regex(named, "^(/|[A-Za-z][A-Za-z0-9+.-]*://)")
    return pc.if_else(absolute, named, pc.binary_join_element_wise(base.rstrip("/"), named, "/"))


def _folder(uri: str) -> str:
    """The folder of a manifest: of a file or glob its parent, of a folder itself."""
    last = posixpath.basename(uri.rstrip("/"))
    return posixpath.dirname(uri) if "." in last or "*" in last else uri.rstrip("/")


def _normal(uri: str) -> str:
    """`a/b/../c` as `a/c`: an object store does not know `..`."""
    scheme, separator, path = uri.partition("://")
    return f"{scheme}://{posixpath.normpath(path)}" if separator else posixpath.normpath(uri)
