"""`kill -9` of workers and of the driver."""

import random

import pytest

from tests.faults.experiment import Experiment

pytestmark = [pytest.mark.faults, pytest.mark.timeout(500)]

ALWAYS = 1e9


@pytest.mark.parametrize(
    ("fault", "title", "at", "method", "done", "seed"),
    [
        ("kill -9 of a model actor", "Classifier", "survey/images/", "GET", False, 1),
        ("kill -9 of a read worker", "fetch_cutouts", "survey/images/", "GET", False, 2),
        ("kill -9 of a write worker after its upload", "write_part", "/part-", "PUT", True, 3),
    ],
)
def test_a_worker_is_killed(
    experiment: Experiment, fault: str, title: str, at: str, method: str, done: bool, seed: int
) -> None:
    """The run finishes without help, with exit code 0."""
    rng, killed, proxy = random.Random(seed), list[int](), experiment.store.proxy
    last = experiment.chunks if method == "PUT" else len(experiment.ids)
    proxy.slow_s = 0.3
    proxy.fail("survey/images/", "slow", ALWAYS)  # keeps all stages busy
    job = experiment.start()
    for moment in rng.sample(range(last // 5, last * 4 // 5), 3):
        proxy.when(at, moment, lambda: job.kill_worker(title, rng, killed), method, done)
    ended = experiment.finish(job)
    assert ended.code == 0, ended.stderr
    assert len(killed) == 3
    experiment.check(fault, len(killed))


CLASSIFYING = [("/part-", 2, False), ("/part-", 7, True), ("/part-", 1, True)]
PUBLISHING = [
    ("/exchange/", 1, True), ("/catalog/", 2, True), ("/margin_10arcs/", 1, True), ("/index_object_id/", 1, True),
    ("/collection.properties", 1, True), ("/catalog/manifest.json", 1, False), ("/catalog/manifest.json", 1, True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "moments"),
    [("kill -9 of the driver while it classifies", CLASSIFYING), ("... while it publishes", PUBLISHING)],
)
def test_the_driver_is_killed(experiment: Experiment, fault: str, moments: list[tuple[str, int, bool]]) -> None:
    """Each run resumes the previous one and does not write its parts again."""
    proxy, whole = experiment.store.proxy, set[str]()
    for at, nth, done in moments:
        written = dict(proxy.reached("/parts/", "PUT"))
        job = experiment.start()
        proxy.when(at, nth, job.kill_driver, done=done)
        ended = experiment.finish(job)
        assert ended.code == -9, ended.stderr
        job.kill_all()
        again = proxy.reached("/parts/", "PUT")
        assert {path for path in written if path.rpartition("/")[2] in whole and again[path] != written[path]} == set()
        assert whole <= experiment.parts()
        whole = experiment.parts()
        assert len(whole) < experiment.chunks or "parts" not in at
    ended = experiment.run()
    assert ended.code == 0, ended.stderr
    experiment.check(fault, len(moments))
    verified = experiment.verify()
    assert (verified.code, verified.summary and verified.summary["problems"]) == (0, []), verified.stderr
