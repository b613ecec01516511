"""Ids in files of verdicts: exact, and compared with those of a catalog."""

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from galaxy_batch.catalog.files import RowFile
from galaxy_batch.catalog.manifest import CatalogManifest
from galaxy_batch.catalog.read_files import files_in_turn, row_groups
from galaxy_batch.verdicts.records import Problem, UnusableRecord

__all__ = ["known_objects", "typed_id", "unknown_reason"]

_ROUNDED = re.compile(r"[+-]?\d+([.,]\d*)?[eE]\+?\d+|[+-]?\d+[.,]\d*")
_EXACT_BELOW = 2**53  # larger integers are rounded by programs that keep numbers as 64-bit floats


def typed_id(text: str, integers: bool) -> int | str:
    """The id as the catalog has it.

    Args:
        text: as in the file.
        integers: whether the catalog's ids are 64-bit integers.

    Raises:
        UnusableRecord: it is not a 64-bit integer; the reason names spreadsheets where one has rounded it.
    """
    if not integers:
        return text
    plain = text.removeprefix("-").removeprefix("+")
    if plain.isascii() and plain.isdigit() and -(2**63) <= int(text) < 2**63:
        return int(text)
    if _ROUNDED.fullmatch(text):
        raise UnusableRecord(Problem.DAMAGED_ID, _damaged(text), text)
    reason = f"the id {text[:100]!r} is not one of this catalog, whose ids are 64-bit integers"
    raise UnusableRecord(Problem.UNKNOWN_OBJECT, reason, text)


def unknown_reason(object_id: int | str) -> UnusableRecord:
    """Why a verdict on an object that the catalog does not have is rejected."""
    text = str(object_id)
    if isinstance(object_id, str) and _ROUNDED.fullmatch(object_id):
        return UnusableRecord(Problem.DAMAGED_ID, _damaged(text), text)
    reason = f"the catalog has no object {text[:100]}"
    if isinstance(object_id, int) and abs(object_id) > _EXACT_BELOW and int(float(object_id)) == object_id:
        reason += "; perhaps a program that keeps numbers as floats has rounded the id"
    return UnusableRecord(Problem.UNKNOWN_OBJECT, reason, text)


def known_objects(catalog_uri: str, manifest: CatalogManifest, ids: Sequence[int | str]) -> set[int | str]:
    """Those of the ids that the catalog has; of the catalog, one row group of ids of a few files is in memory.

    Raises:
        InputError: a file is missing or damaged.
    """
    wanted = pa.array(sorted(set(ids)), manifest.id_type)

    def find(_: int, file: RowFile) -> list[int | str]:
        here: list[int | str] = []
        for _, rows in row_groups(catalog_uri, file, ["object_id"]):
            here += rows["object_id"].filter(pc.is_in(rows["object_id"], value_set=wanted)).to_pylist()
        return here

    known: set[int | str] = set()
    for here in files_in_turn(manifest.files, "looking for the objects", find):
        known.update(here)
        if len(known) == len(wanted):
            break
    return known


def _damaged(text: str) -> str:
    return (
        f"the id {text!r} has been rounded, as spreadsheets do with long numbers when they open and save a CSV: "
        "import the file as it was exported"
    )
