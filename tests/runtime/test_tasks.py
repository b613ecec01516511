import pyarrow as pa
import pytest

from galaxy_batch.runtime.tasks import TaskRunner, run_in_order, run_tasks


def doubled(item: pa.Table, offset: int) -> pa.Table:
    (row,) = item.to_pylist()
    return pa.table({"value": [2 * row["n"] + offset] * row["n"]})


@pytest.mark.usefixtures("ray_started")
@pytest.mark.parametrize("task_runner", [run_tasks, run_in_order])
def test_each_item_is_one_task_and_its_table_may_have_any_rows(task_runner: TaskRunner) -> None:
    rows = task_runner(doubled, [{"n": n} for n in range(4)], {"offset": 1})
    assert sorted(row["value"] for row in rows) == [3, 5, 5, 7, 7, 7]


def test_no_items_need_no_ray() -> None:
    assert list(run_tasks(doubled, [], {})) == []
