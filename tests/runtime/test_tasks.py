import pyarrow as pa
import pytest

from galaxy_batch.runtime.tasks import run_tasks


def doubled(item: pa.Table, offset: int) -> pa.Table:
    (row,) = item.to_pylist()
    return pa.table({"value": [2 * row["n"] + offset] * row["n"]})


@pytest.mark.usefixtures("ray_started")
def test_each_item_is_one_task_and_its_table_may_have_any_rows() -> None:
    rows = run_tasks(doubled, [{"n": n} for n in range(4)], {"offset": 1})
    assert sorted(row["value"] for row in rows) == [3, 5, 5, 7, 7, 7]


def test_no_items_need_no_ray() -> None:
    assert list(run_tasks(doubled, [], {})) == []
