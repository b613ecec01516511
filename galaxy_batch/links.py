"""Links from a galaxy on a page to its cutout and to web pages about it."""

import posixpath
import re
import string
from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlsplit

from galaxy_batch.errors import InputError, without_credentials

__all__ = ["SKY_LINKS", "check_links", "cutout_links", "galaxy_links", "link_to", "locations"]

SKY_LINKS = {
    "SkyServer": "https://skyserver.sdss.org/dr18/VisualTools/explore/summary?ra={ra}&dec={dec}",
    "Legacy Surveys": "https://www.legacysurvey.org/viewer?ra={ra}&dec={dec}&layer=ls-dr10&zoom=16&mark={ra},{dec}",
}
"""Web pages about a position, by name."""

_FIELDS = {"ra", "dec", "object_id"}
_REMOTE = re.compile(r"(https?|s3|gs)://[^/]", re.IGNORECASE)
_ABSOLUTE = re.compile(r"/|[A-Za-z][A-Za-z0-9+.-]*://")
_OTHER_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_BANDS = ("red", "green", "blue")


def check_links(setting: str, templates: Mapping[str, str]) -> None:
    """Check templates of addresses, with `{ra}`, `{dec}` in degrees and `{object_id}` in braces.

    Raises:
        InputError: another field, unmatched braces, or an address that is not http(s) or has credentials in it.
    """
    for name, template in templates.items():
        try:
            parsed = list(string.Formatter().parse(template))
            address = urlsplit(template)
        except ValueError as error:
            raise InputError(f"{setting}.{name}", template, str(error)) from None
        if any(field is not None and (field not in _FIELDS or spec or how) for _, field, spec, how in parsed):
            raise InputError(f"{setting}.{name}", template, "use only {ra}, {dec} and {object_id}")
        if address.scheme not in ("http", "https") or not address.netloc or set("{@") & set(address.netloc):
            raise InputError(f"{setting}.{name}", template, "must be an http(s) address without credentials")


def galaxy_links(
    templates: Mapping[str, str], object_id: int | str, ra: float | None, dec: float | None
) -> dict[str, str]:
    """Addresses by name, filled in for one galaxy; without those that need a position where there is none.

    Args:
        templates: as `check_links` checks them.
        object_id: of the galaxy.
        ra: degrees, ICRS.
        dec: degrees, ICRS.
    """
    values = {"object_id": quote(str(object_id), safe="")}
    if ra is not None and dec is not None:
        values |= {"ra": f"{ra:.6f}", "dec": f"{dec:.6f}"}
    needed = {name: {field for _, field, _, _ in string.Formatter().parse(t) if field} for name, t in templates.items()}
    return {name: template.format(**values) for name, template in templates.items() if needed[name] <= values.keys()}


def locations(image_uri: str | None) -> tuple[str, ...]:
    """The URIs in the column `image_uri` of a row: none, one, or three, one per band."""
    bands = (image_uri or "").split(" ")
    if len(bands) == len(_BANDS) and all(map(_ABSOLUTE.match, bands)):
        return tuple(band.replace("%20", " ") for band in bands)
    return (image_uri,) if image_uri else ()


def cutout_links(uris: Sequence[str | None], folder_uri: str) -> dict[str, str]:
    """Addresses of a cutout, or of its three bands, for a page in this folder."""
    names = ("cutout",) if len(uris) == 1 else _BANDS
    links = {name: link_to(uri, folder_uri) for name, uri in zip(names, uris, strict=False) if uri is not None}
    return {name: link for name, link in links.items() if link is not None}


def link_to(uri: str, folder_uri: str) -> str | None:
    """Address of a file for a page in this folder; None where there is no safe one.

    Local files are linked relative to a local page; http(s), s3 and gs URIs as they are, unless they have credentials.
    """
    if _REMOTE.match(uri):
        return uri if without_credentials(uri) == uri else None
    path, folder = uri.removeprefix("file://"), folder_uri.removeprefix("file://")
    if not path.startswith("/") or "::" in path or _OTHER_SCHEME.match(folder):
        return None
    return quote(posixpath.relpath(path, folder))
