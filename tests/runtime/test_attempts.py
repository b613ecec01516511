import pytest
import ray

from galaxy_batch.runtime.attempts import MAX_UNFINISHED, Attempts


@pytest.mark.usefixtures("ray_started")
def test_all_workers_share_one_count_and_too_many_suspects_fail_the_job() -> None:
    attempts = Attempts(max_suspects=1)
    begin = ray.remote(num_cpus=0.25)(lambda attempts, chunk: attempts.begin(chunk))
    assert ray.get([begin.remote(attempts, chunk) for chunk in range(3)]) == [0, 0, 0]
    assert [attempts.begin(0) for _ in range(MAX_UNFINISHED)] == [1, 2]
    assert attempts.begin(1) == 1
    with pytest.raises(
        RuntimeError, match=r"2 chunks have each crashed 2 model workers, more than runtime\.max_suspect"
    ):
        attempts.begin(1)


@pytest.mark.usefixtures("ray_started")
def test_rows_of_a_chunk_are_forgotten_when_it_starts_again() -> None:
    attempts = Attempts(max_suspects=1)
    attempts.begin(4)
    attempts.report(4, 10)
    attempts.report(5, 20)
    assert attempts.rows_classified() == {4: 10, 5: 20}
    attempts.begin(4)
    assert attempts.rows_classified() == {5: 20}
