import pytest

from galaxy_batch.failures import failure_problem

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
