"""Match the rows of two catalogs by id or by position."""

import numpy as np
import pyarrow.compute as pc

from galaxy_batch.compare.catalog_columns import CatalogColumns
from galaxy_batch.compare.class_mix import Pairs
from galaxy_batch.compare.result import Matching
from galaxy_batch.errors import InputError
from galaxy_batch.sky.matching import match_positions

__all__ = ["match_by_id", "match_by_position"]


def match_by_id(old: CatalogColumns, new: CatalogColumns) -> tuple[Pairs, Matching]:
    """Match rows with equal ids.

    Raises:
        InputError: the ids differ in type or are not unique.
    """
    if old.ids.type != new.ids.type:
        raise InputError("match", "object_id", f"old ids are {old.ids.type}, new are {new.ids.type}: match by position")
    for field, catalog in (("old_uri", old), ("new_uri", new)):
        if pc.count_distinct(catalog.ids).as_py() != len(catalog):
            raise InputError(field, catalog.uri, "an id is in more than one row: verify the catalog")
    indices = pc.index_in(old.ids, value_set=new.ids)
    rows = np.flatnonzero(indices.is_valid().to_numpy())
    partners = indices.drop_null().to_numpy().astype(np.int64)
    return (rows, partners), Matching("object_id", None, *_counts(old, new, len(rows)), 0, 0, 0, None)


def match_by_position(old: CatalogColumns, new: CatalogColumns, radius_arcsec: float) -> tuple[Pairs, Matching]:
    """Match rows that are mutual nearest neighbours on the sky, within a radius.

    Raises:
        InputError: a catalog has no positions.
    """
    placed = np.flatnonzero(old.pixel >= 0), np.flatnonzero(new.pixel >= 0)
    for field, catalog, rows in (("old_uri", old, placed[0]), ("new_uri", new, placed[1])):
        if not len(rows):
            raise InputError(field, catalog.uri, "no row has a position: match by object_id")
    matches = match_positions(
        (old.ra[placed[0]], old.dec[placed[0]]), (new.ra[placed[1]], new.dec[placed[1]]), radius_arcsec
    )
    matching = Matching(
        "position",
        radius_arcsec,
        *_counts(old, new, len(matches.old)),
        ambiguous=matches.ambiguous,
        nowhere_old=len(old) - len(placed[0]),
        nowhere_new=len(new) - len(placed[1]),
        median_separation_arcsec=float(np.median(matches.separation_arcsec)) if len(matches.old) else None,
    )
    return (placed[0][matches.old], placed[1][matches.new]), matching


def _counts(old: CatalogColumns, new: CatalogColumns, matched: int) -> tuple[int, int, int]:
    return matched, len(old) - matched, len(new) - matched
