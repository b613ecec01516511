import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from galaxy_batch.catalog.verify_rows import CatalogContract, broken_rules
from galaxy_batch.rows import ReviewFlag
from galaxy_batch.sky.healpix import pixels_at
from tests.support.skies import (
    CONTRACT,
    LIMITS,
    MODEL_ID,
    RELEASE,
    manifest_entries,
    schema_of,
    sky_rows,
)


def catalog_rows(text_ids: bool = False) -> pa.Table:
    rows = sky_rows(3000, seed=4, without_position=0.1, text_ids=text_ids)
    rows = rows.append_column("release", pa.array([RELEASE] * len(rows)))
    return rows.append_column("model_id", pa.array([MODEL_ID] * len(rows)))


def with_values(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, values.cast(rows.schema.field(name).type))


@pytest.mark.parametrize("text_ids", [False, True])
def test_good_rows_break_no_rule(text_ids: bool) -> None:
    assert broken_rules(catalog_rows(text_ids), CONTRACT) == {}


def test_the_promise_is_in_the_manifest() -> None:
    rows = catalog_rows()
    assert CatalogContract.of(manifest_entries(len(rows), schema_of(rows))) == CONTRACT
    entries = manifest_entries(3, schema_of(rows))
    for without in ("config", "classes", *LIMITS, "release"):
        with pytest.raises((KeyError, TypeError)):
            CatalogContract.of({key: value for key, value in entries.items() if key != without})


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
    for shift_arcsec, found in ((0.0004, False), (0.003, True), (10.0, True)):
        pixels = pixels_at(ra, np.clip(dec + shift_arcsec / 3600, -90, 90))
        assert (pixels != rows["_healpix_29"].to_numpy()).mean() > 0.5
        broken = broken_rules(with_values(rows, "_healpix_29", pa.array(pixels)), CONTRACT)
        assert ("a _healpix_29 that is not the pixel of ra, dec" in broken) == found
    nonsense = with_values(rows, "_healpix_29", pa.array(np.full(len(rows), 2**62)))
    assert broken_rules(nonsense, CONTRACT)["a _healpix_29 that is not the pixel of ra, dec"].all()


def test_rows_of_a_model_that_does_not_tell_have_neither_number_nor_flag() -> None:
    silent = dataclasses.replace(CONTRACT, max_unfamiliarity=None, max_instability=None)
    rows = catalog_rows()
    without = rows
    for name in ("unfamiliarity", "instability"):
        without = with_values(without, name, pa.nulls(len(rows), pa.float32()))
    flags = rows["review_flags"].to_numpy() & ~np.int32(ReviewFlag.UNFAMILIAR | ReviewFlag.UNSTABLE)
    without = with_values(without, "review_flags", pa.array(flags))
    without = with_values(without, "needs_review", pa.array(flags != 0))
    assert broken_rules(without, silent) == {}
    assert set(broken_rules(rows, silent)) == {
        "UNFAMILIAR at odds with unfamiliarity", "UNSTABLE at odds with instability"
    }  # fmt: skip


def test_nulls_where_none_may_be_are_all_that_is_said() -> None:
    rows = with_values(catalog_rows(), "status", pa.nulls(3000, pa.string()))
    assert list(broken_rules(rows, CONTRACT)) == ["a null in status"]


def test_every_flag_of_today_is_known() -> None:
    rows = catalog_rows()
    flags = pa.array(np.full(len(rows), int(sum(ReviewFlag)), np.int32))
    assert "unknown bits in review_flags" not in broken_rules(with_values(rows, "review_flags", flags), CONTRACT)
