import dataclasses
from pathlib import Path

import numpy as np
import pytest

from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.compare.catalog_columns import CatalogColumns, read_columns
from galaxy_batch.compare.matching import match_by_id, match_by_position
from galaxy_batch.errors import InputError
from tests.support.skies import CLASSES, publish_rows, sky_rows


def side(folder: Path, first: int, text_ids: bool = False) -> CatalogColumns:
    """500 objects, numbered from `first`."""
    rows = sky_rows(1000, seed=4, without_position=0.1, text_ids=text_ids).slice(first, 500)
    catalog = str(publish_rows(folder, rows, 100, 70))
    return read_columns("old_uri", catalog, require_manifest(catalog), CLASSES)


@pytest.mark.parametrize("text_ids", [False, True])
def test_equal_ids_are_matched(tmp_path: Path, text_ids: bool) -> None:
    old, new = side(tmp_path / "old", 0, text_ids), side(tmp_path / "new", 300, text_ids)
    (rows, partners), matching = match_by_id(old, new)
    ids = old.ids.take(rows)
    assert ids.equals(new.ids.take(partners))
    assert set(ids.to_pylist()) == set(old.ids.to_pylist()) & set(new.ids.to_pylist())
    assert (matching.matched, matching.only_old, matching.only_new) == (200, 300, 300)


def test_positions_match_the_same_objects(tmp_path: Path) -> None:
    """All objects but those without a position."""
    old, new = side(tmp_path / "old", 0), side(tmp_path / "new", 300)
    (rows, partners), matching = match_by_position(old, new, 1)
    assert old.ids.take(rows).equals(new.ids.take(partners))
    (by_id, _), _ = match_by_id(old, new)
    assert set(rows.tolist()) == {row for row in by_id.tolist() if old.pixel[row] >= 0}
    assert matching.nowhere_old == int(np.isnan(old.ra).sum()) > 0
    assert (matching.ambiguous, matching.median_separation_arcsec) == (0, 0)


def test_ids_of_two_kinds_do_not_match(tmp_path: Path) -> None:
    old, new = side(tmp_path / "old", 0), side(tmp_path / "new", 0, text_ids=True)
    with pytest.raises(InputError, match="old ids are int64, new are string"):
        match_by_id(old, new)
    nowhere = dataclasses.replace(new, pixel=np.full(len(new), -1))
    with pytest.raises(InputError, match="no row has a position"):
        match_by_position(old, nowhere, 1)
