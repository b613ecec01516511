"""Jobs on a real cluster of several hosts, which join, die and lose their network while a job runs.

Where possible, each host, the head (which runs no tasks) and the submitting machine have their own network namespace.
The catalog and the cutouts are on the S3 server.
"""

import shutil
import threading
import time
from collections.abc import Iterator

import pytest

from tests.faults.experiment import Ended, Experiment, Job
from tests.faults.hosts import Cluster, Host, namespaces_can_be_made
from tests.support.repository import REPOSITORY
from tests.support.s3_server import S3, Proxy

pytestmark = [pytest.mark.faults, pytest.mark.timeout(540)]

NAMESPACES = namespaces_can_be_made()
ALWAYS = 1e9


@pytest.fixture(scope="module")
def cluster(store: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with a head and no workers, and its own proxy of the store."""
    pytest.importorskip("aiohttp_cors", reason="ray[default] is not installed")
    cluster = Cluster(tmp_path_factory.mktemp("hosts"), {}, NAMESPACES)
    proxy = Proxy(store.proxy.upstream, cluster.listener())
    try:
        cluster.environment.update({**store.environment, "AWS_ENDPOINT_URL": proxy.url})
        cluster.proxy = proxy  # type: ignore[attr-defined]
        cluster.start_head()
        yield cluster
    finally:
        cluster.close()
        proxy.close()


@pytest.fixture
def far(experiment: Experiment, cluster: Cluster) -> Iterator[Experiment]:
    """The experiment, with the store behind the cluster's proxy and slow responses."""
    near = experiment.store
    experiment.store = S3(near.direct, cluster.proxy, near.bucket)  # type: ignore[attr-defined]
    proxy = experiment.store.proxy
    proxy.forget()
    proxy.slow_s = 0.5  # the job must last long enough for the fault
    proxy.fail("survey/images/", "slow", ALWAYS)
    proxy.fail("/part-", "slow", ALWAYS, method="PUT")
    yield experiment
    proxy.forget()


def submit(experiment: Experiment, cluster: Cluster, *overrides: str) -> Job:
    """`python -m jobs.submit` on the submitting machine, from a checkout."""
    checkout = experiment.folder / "checkout"
    for name in ("galaxy_batch", "jobs"):
        shutil.copytree(REPOSITORY / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(experiment.config(), checkout / "catalog.toml")
    words = [word for override in overrides for word in ("--set", override)]
    command = ["-m", "jobs.submit", "catalog.toml", "--address", cluster.url, *words]
    job = Job(command, cluster.environment, experiment.folder, "submit", checkout, cluster.enter)
    experiment.jobs.append(job)
    return job


def finish(experiment: Experiment, job: Job) -> Ended:
    ended = experiment.finish(job, 400)
    assert ended.code == 0, ended.stderr[-6000:]
    assert ended.summary is not None
    assert ended.summary["state"] == "SUCCEEDED"
    return ended


def writers(experiment: Experiment) -> set[str]:
    """Addresses of the hosts that wrote parts."""
    asked = experiment.store.proxy.requests
    return {request.client for request in asked if request.method == "PUT" and "/part-" in request.path}


def test_a_job_waits_for_hosts_and_uses_one_that_joins_later(far: Experiment, cluster: Cluster) -> None:
    """Submitted to a head without hosts; the first host starts the job, the second joins and computes chunks too."""
    far.store.proxy.slow_s = 1.2
    job = submit(far, cluster, "runtime.grow_after_s=2", "runtime.progress_every_s=1")
    while "waiting for a node with a CPU" not in job.stderr():
        assert job.process.poll() is None, job.stderr()
        time.sleep(0.5)
    first = cluster.add_host()
    begun = threading.Event()
    far.store.proxy.when("/part-", 1, begun.set)
    assert begun.wait(120), job.stderr()
    second = cluster.add_host()
    actors = watch(job, second)
    ended = finish(far, job)
    assert "the cluster has grown: 2 model workers instead of 1" in ended.stderr
    assert actors, "no model actor on the second host"
    asked = [request.path for request in far.store.proxy.requests]
    written = next(number for number, path in enumerate(asked) if "/part-" in path)
    read = [path for path in asked[:written] if "survey/images/" in path]
    assert len(read) < len(far.ids) / 2, "a host with one CPU must not read everything before it writes"
    if NAMESPACES:
        assert writers(far) == {first.ip, second.ip}
    far.check("a worker host is added mid-run", 1)


def watch(job: Job, host: Host) -> set[int]:
    """Process ids of the model actors on a host while the job runs."""
    seen = set[int]()
    while job.process.poll() is None:
        seen.update(process.pid for process in host.processes("Classifier)"))
        time.sleep(1)
    return seen


@pytest.fixture
def victim(cluster: Cluster) -> Iterator[Host]:
    """One of two hosts beside the head, which the test may destroy."""
    while len(cluster.hosts) < 3:
        cluster.add_host()
    host = cluster.hosts[-1]
    yield host
    host.close()
    cluster.hosts.remove(host)


@pytest.mark.skipif(not NAMESPACES, reason="network namespaces are not permitted")
@pytest.mark.parametrize("moment", [3])
def test_a_host_loses_its_network(far: Experiment, cluster: Cluster, victim: Host, moment: int) -> None:
    """Its processes go on without a connection; the others compute its chunks."""
    job = submit(far, cluster)
    far.store.proxy.when("/part-", moment, victim.disconnect)
    finish(far, job)
    deadline = time.monotonic() + 60
    while cluster.alive_nodes() != 2:
        assert time.monotonic() < deadline, "the head and one host must remain"
        time.sleep(1)
    far.check("a worker host loses its network", 1)


@pytest.mark.parametrize(("what", "moment"), [("", 5), ("raylet/raylet", 8)])
def test_a_host_or_its_raylet_is_killed(
    far: Experiment, cluster: Cluster, victim: Host, what: str, moment: int
) -> None:
    """`kill -9` of all its processes, or of its raylet."""
    killed: list[int] = []
    job = submit(far, cluster)
    far.store.proxy.when("/part-", moment, lambda: killed.append(victim.kill(what)))
    finish(far, job)
    assert killed
    assert killed[0] >= 1
    far.check(f"kill -9 of {'the raylet' if what else 'all processes'} of a worker host", 1)
