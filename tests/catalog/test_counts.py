import pyarrow as pa

from galaxy_batch.catalog.counts import count_rows, total_counts
from galaxy_batch.ids import id_hashes, ids_checksum
from galaxy_batch.rows import ReviewFlag
from tests.support.skies import sky_rows


def test_counts_are_those_of_the_rows() -> None:
    rows = sky_rows(500, seed=2, without_position=0.1)
    counts = count_rows(rows)
    statuses, flags = rows["status"].to_pylist(), rows["review_flags"].to_pylist()
    assert (counts.rows, counts.failed, counts.flagged) == (500, statuses.count("missing"), sum(map(bool, flags)))
    assert counts.without_position == rows["ra"].null_count
    assert counts.status_counts == {name: statuses.count(name) for name in ("missing", "ok")}
    assert sum(counts.class_counts.values()) == 500 - counts.failed
    assert counts.flag_counts["AUDIT"] == sum(bool(value & ReviewFlag.AUDIT) for value in flags)
    assert counts.ids_checksum == f"{ids_checksum(id_hashes(rows['object_id'])):016x}"


def test_counts_of_parts_add_up_to_those_of_the_whole() -> None:
    rows = sky_rows(700, seed=3, without_position=0.1)
    parts = [rows.slice(0, 1), rows.slice(1, 400), rows.slice(401)]
    assert total_counts(map(count_rows, parts)) == count_rows(pa.concat_tables(parts))
    assert total_counts([]).rows == 0
