"""The rules for each row of a catalog, and where they come from."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from galaxy_batch.catalog.verify_rows import CatalogContract, broken_rules
from galaxy_batch.rows import ReviewFlag
from galaxy_batch.sky.healpix import pixels_at
from tests.support.skies import CONTRACT, MODEL_ID, RELEASE, REVIEW, manifest_with, sky_rows


def catalog_rows(text_ids: bool = False) -> pa.Table:
    rows = sky_rows(3000, seed=4, without_position=0.1, text_ids=text_ids)
    rows = rows.append_column("release", pa.array([RELEASE] * len(rows)))
    return rows.append_column("model_id", pa.array([MODEL_ID] * len(rows)))


def with_values(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, values.cast(rows.schema.field(name).type))


@pytest.mark.parametrize("text_ids", [False, True])
def test_good_rows_break_no_rule(text_ids: bool) -> None:
    assert broken_rules(catalog_rows(text_ids), CONTRACT) == {}


def test_the_contract_comes_from_the_manifest() -> None:
    assert CatalogContract.of(manifest_with()) == CONTRACT


def without_positions(rows: pa.Table, flagged: bool) -> pa.Table:
    """The rows of a survey that has no columns of positions."""
    flags = rows["review_flags"].to_numpy() & ~np.int32(64) | np.int32(64 * flagged)
    for name in ("ra", "dec", "_healpix_29"):
        rows = with_values(rows, name, pa.nulls(len(rows), rows.schema.field(name).type))
    rows = with_values(rows, "review_flags", pa.array(flags))
    return with_values(rows, "needs_review", pa.array(flags != 0))


@pytest.mark.parametrize(("no_position", "by_older_version"), [(0, False), (3000, True)])
def test_a_survey_without_positions_is_verified_by_the_rule_of_its_time(
    no_position: int, by_older_version: bool
) -> None:
    """Older versions set NO_POSITION on all of its rows; now it is set on none."""
    manifest = manifest_with()
    config = {**manifest.config, "manifest": {"ra_column": None}}
    flag_counts = {**manifest.flag_counts, "NO_POSITION": no_position}
    contract = CatalogContract.of(manifest_with(config=config, flag_counts=flag_counts))
    rows = catalog_rows()
    assert broken_rules(without_positions(rows, by_older_version), contract) == {}
    assert set(broken_rules(without_positions(rows, not by_older_version), contract)) == {"NO_POSITION at odds with ra"}


def test_a_catalog_from_before_a_flag_has_no_row_with_it() -> None:
    flag_counts = {flag.name: 1 for flag in ReviewFlag if flag is not ReviewFlag.UNSTABLE}
    older = manifest_with(flag_counts=flag_counts)
    rows = catalog_rows()
    assert set(broken_rules(rows, CatalogContract.of(older))) == {"unknown bits in review_flags"}
    flags = rows["review_flags"].to_numpy() & ~np.int32(ReviewFlag.UNSTABLE)
    rows = with_values(rows, "review_flags", pa.array(flags))
    rows = with_values(rows, "needs_review", pa.array(flags != 0))
    assert broken_rules(rows, CatalogContract.of(older)) == {}


def test_each_broken_row_is_marked_and_no_other() -> None:
    rows = catalog_rows()
    ra = rows["ra"].to_numpy().copy()
    ra[[10, 2000]] = 361
    broken = broken_rules(with_values(rows, "ra", pa.array(ra, from_pandas=True)), CONTRACT)
    assert np.flatnonzero(broken["ra or dec out of range"]).tolist() == [10, 2000]
    assert set(broken) <= {"ra or dec out of range", "NO_POSITION at odds with ra", "dec without ra, or the reverse"}


def test_a_neighbouring_pixel_is_rounding_and_a_distant_one_is_not() -> None:
    rows = catalog_rows()
    rows = rows.filter(rows["ra"].is_valid()).slice(8)
    ra, dec = rows["ra"].to_numpy(), rows["dec"].to_numpy()
    for shift_arcsec, is_broken in ((0.0004, False), (0.003, True), (10.0, True)):
        pixels = pixels_at(ra, np.clip(dec + shift_arcsec / 3600, -90, 90))
        assert (pixels != rows["_healpix_29"].to_numpy()).mean() > 0.5
        broken = broken_rules(with_values(rows, "_healpix_29", pa.array(pixels)), CONTRACT)
        assert ("a _healpix_29 that is not the pixel of ra, dec" in broken) == is_broken
    nonsense = with_values(rows, "_healpix_29", pa.array(np.full(len(rows), 2**62)))
    assert broken_rules(nonsense, CONTRACT)["a _healpix_29 that is not the pixel of ra, dec"].all()


def test_no_row_is_unfamiliar_or_unstable_without_a_limit() -> None:
    limits = dataclasses.replace(REVIEW, max_unfamiliarity=None, max_instability=None)
    unlimited = dataclasses.replace(CONTRACT, limits=limits)
    rows = catalog_rows()
    without = rows
    for name in ("unfamiliarity", "instability"):
        without = with_values(without, name, pa.nulls(len(rows), pa.float32()))
    flags = rows["review_flags"].to_numpy() & ~np.int32(ReviewFlag.UNFAMILIAR | ReviewFlag.UNSTABLE)
    without = with_values(without, "review_flags", pa.array(flags))
    without = with_values(without, "needs_review", pa.array(flags != 0))
    assert broken_rules(without, unlimited) == {}
    assert set(broken_rules(rows, unlimited)) == {
        "UNFAMILIAR at odds with unfamiliarity by max_unfamiliarity",
        "UNSTABLE at odds with instability by max_instability",
    }


def test_nulls_hide_the_other_rules() -> None:
    rows = with_values(catalog_rows(), "status", pa.nulls(3000, pa.string()))
    assert list(broken_rules(rows, CONTRACT)) == ["a null in status"]


def test_every_flag_is_known() -> None:
    rows = catalog_rows()
    flags = pa.array(np.full(len(rows), int(sum(ReviewFlag)), np.int32))
    assert "unknown bits in review_flags" not in broken_rules(with_values(rows, "review_flags", flags), CONTRACT)
