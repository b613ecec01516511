"""The files of a survey's tiles by wildcards: one listing per band, joined by the text that the wildcards stand for."""

import re
from typing import Any, NamedTuple

from galaxy_batch.errors import InputError
from galaxy_batch.storage.archives import file_version
from galaxy_batch.storage.files import filesystem, join, without_secrets

__all__ = ["TileFiles", "list_tiles"]

_WILDCARD = re.compile(r"\*\*|\*|\?|\[[^\]]+\]")
_SETTING = "manifest.tiles.band_templates"


class TileFiles(NamedTuple):
    """The files of one tile."""

    uris: tuple[str | None, ...]
    """Of the red, green and blue band; None where there is no file."""
    version: str
    """Changes when a file does."""


def list_tiles(templates: tuple[str, ...], folder: str) -> list[TileFiles]:
    """The tiles whose files match the templates, in the order of their names.

    Args:
        templates: with wildcards; of the red, green and blue band.
        folder: to which they are relative.

    Raises:
        InputError: a template matches nothing, or is on a store that cannot list files.
    """
    bands = [_matches(template, folder) for template in templates]
    tiles = []
    for key in sorted(set().union(*bands)):
        found = [band.get(key) for band in bands]
        uris = tuple(file[0] if file else None for file in found)
        tiles.append(TileFiles(uris, " ".join(file[1] if file else "-" for file in found)))
    return tiles


def _matches(template: str, folder: str) -> dict[tuple[str, ...], tuple[str, str]]:
    """URI and version of each file, by the text that the wildcards stand for."""
    uri = template if template.startswith("/") or "://" in template else join(folder, template)
    fs, path = filesystem(uri)
    if "http" in fs.protocol:
        remedy = "a web server has no listing of its files: give a table of the tiles, and its columns in braces"
        raise InputError(_SETTING, template, remedy)
    fs.invalidate_cache()
    files: dict[str, dict[str, Any]] = fs.glob(path, detail=True)
    fs.invalidate_cache()
    pattern = re.compile(_expression(path))
    matches = {}
    for name, info in files.items():
        if info["type"] != "directory" and (match := pattern.fullmatch(name)):
            full = str(fs.unstrip_protocol(name)) if "://" in uri else str(name)
            matches[match.groups()] = full, f"{info.get('size')} {file_version(info)}"
    if not matches:
        raise InputError(_SETTING, template, f"no file matches {without_secrets(uri)}")
    return matches


def _expression(path: str) -> str:
    """The path as a regular expression with a group for each wildcard."""
    pieces, end = [], 0
    for wildcard in _WILDCARD.finditer(path):
        pieces.append(re.escape(path[end : wildcard.start()]))
        pieces.append({"**": "(.*)", "*": "([^/]*)", "?": "([^/])"}.get(wildcard[0], f"({wildcard[0]})"))
        end = wildcard.end()
    return "".join([*pieces, re.escape(path[end:])])
