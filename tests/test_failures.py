import pyarrow as pa
import pytest

from galaxy_batch.failures import failure_example, failure_problem, main_failure
from galaxy_batch.rows import Status

STATUSES = {"ok": 36, "unreadable": 3, "missing": 1}


@pytest.mark.parametrize(("limit", "passes"), [(0.0, False), (0.09, False), (0.1, True), (1.0, True)])
def test_a_share_of_failures_is_allowed(limit: float, passes: bool) -> None:
    problem = failure_problem(STATUSES, limit)
    wanted = f"4 of 40 cutouts have no class (3 unreadable, 1 missing), more than max_failed_fraction = {limit}"
    assert problem == (None if passes else wanted)


def test_unreachable_cutouts_are_allowed_only_on_request() -> None:
    statuses = {"unreachable": 1, **STATUSES}
    problem = failure_problem(statuses, 1.0, keep_unreachable=False, subject="rows have no image")
    assert problem is not None
    assert problem.startswith("5 of 41 rows have no image (3 unreadable, 1 unreachable, 1 missing), ")
    assert problem.endswith("and keep_unreachable = false")
    assert failure_problem(statuses, 0.2, keep_unreachable=True) is None
    assert failure_problem(STATUSES, 0.2, keep_unreachable=False) is None


def test_nothing_has_no_failures() -> None:
    assert failure_problem({}, 0.0) is None


def test_the_example_is_of_the_failure_that_matters() -> None:
    statuses = {"unreachable": 1, **STATUSES}
    assert main_failure(statuses, keep_unreachable=False) == Status.UNREACHABLE
    assert main_failure(statuses, keep_unreachable=True) == Status.UNREADABLE


def test_an_example_gives_object_uri_and_error() -> None:
    classified = pa.table({"object_id": [7, 8], "status": ["ok", "missing"], "error": [None, "no such file"]})
    rows = pa.table({"_image_uri": ["a/7.jpg", "a/8.jpg"]})
    assert failure_example(rows, classified, Status.MISSING) == "object 8 at a/8.jpg: no such file"
    bands = pa.table({"_image_uri": [["7g", "7r"], ["8g", "8r"]]})
    assert failure_example(bands, classified, Status.MISSING) == "object 8 at 8g, 8r: no such file"
    bytes_given = pa.table({"_image_bytes": [b"x", None]})
    assert failure_example(bytes_given, classified, Status.MISSING) == "object 8 at the manifest: no such file"
    assert failure_example(rows, classified, Status.UNREADABLE) is None
