"""Counts of a catalog equal those of all its rows at once, whatever its files and row groups."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from galaxy_batch.audit.estimate import FINE_BINS
from galaxy_batch.audit.population import FLAG_GROUPS, count_population, in_flag_group
from galaxy_batch.catalog.manifest import require_manifest
from galaxy_batch.rows import ReviewFlag
from tests.support.skies import CLASSES, publish_rows, read_catalog, sky_rows


@pytest.mark.parametrize("text_ids", [False, True])
def test_counts_and_asked_rows(tmp_path: Path, text_ids: bool) -> None:
    catalog = publish_rows(tmp_path, sky_rows(900, seed=3, text_ids=text_ids, without_position=0.1), max_rows=100)
    rows = read_catalog(catalog).to_pandas()
    asked = rows["object_id"].iloc[::50].tolist()
    nowhere = "J0" if text_ids else 5
    ids = pa.array([*asked, nowhere], pa.string() if text_ids else pa.int64())
    population, found = count_population(str(catalog), require_manifest(str(catalog)), ids)
    assert sorted(found["object_id"].to_pylist()) == sorted(asked)
    classified = rows[rows["predicted_class"].notna()]
    assert (population.rows, population.classified) == (900, len(classified))
    for number, name in enumerate(CLASSES):
        of_class = classified[classified["predicted_class"] == name]
        assert population.counts[number].sum() == len(of_class)
        expected, _ = np.histogram(of_class["confidence"], np.linspace(0, 1, FINE_BINS + 1))
        np.testing.assert_array_equal(population.counts[number], expected)
        assert population.confidence[number].sum() == pytest.approx(of_class["confidence"].sum(), rel=1e-6)
    low = classified[(classified["review_flags"] & 1) != 0]
    assert population.flags["LOW_CONFIDENCE"] == len(low)
    assert population.flag_confidence["LOW_CONFIDENCE"] == pytest.approx(low["confidence"].sum(), rel=1e-6)
    assert population.flags["no flag"] == (classified["review_flags"] & ~128 == 0).sum()


def test_the_audit_flag_is_no_reason_and_unreadable_rows_have_no_class() -> None:
    assert {"AUDIT", "UNREADABLE"}.isdisjoint(FLAG_GROUPS)
    flags = np.array([0, ReviewFlag.AUDIT, ReviewFlag.BLANK | ReviewFlag.AUDIT], np.int32)
    assert in_flag_group(flags, "no flag").tolist() == [True, True, False]
    assert in_flag_group(flags, "BLANK").tolist() == [False, False, True]
