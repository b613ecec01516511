from typing import Any, Literal

import pytest
import ray

from galaxy_batch.config import RuntimeConfig
from galaxy_batch.errors import InputError
from galaxy_batch.runtime import cluster
from galaxy_batch.runtime.cluster import ClusterGrowth, workers_for
from galaxy_batch.runtime.workers import Workers, workers_on


def on(monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], chunks: int = 1000, **settings: Any) -> Workers:
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": node} for node in nodes])
    return workers_for(RuntimeConfig(**settings), chunks)


GPU = {"device": "auto"}
TORCH = {"engine": "torch"}
OPENVINO = {"engine": "openvino"}


@pytest.mark.parametrize(
    ("nodes", "settings", "expected"),
    [
        ([{"CPU": 1}], TORCH, (1, "torch", 1, 0.75, 0)),
        ([{"CPU": 1}], OPENVINO, (1, "openvino", 1, 0.75, 0)),
        ([{"CPU": 2}], TORCH, (2, "torch", 1, 0.75, 0)),
        ([{"CPU": 2}], OPENVINO, (1, "openvino", 2, 1.0, 0)),
        ([{"CPU": 2}], {**TORCH, "actors": 1}, (1, "torch", 2, 1.0, 0)),
        ([{"CPU": 16, "GPU": 1}], GPU, (2, "cuda", 8, 6.0, 0.5)),
        ([{"CPU": 16, "GPU": 1}], {"actors": 1}, (1, "cuda", 8, 6.0, 1.0)),
        ([{"CPU": 16, "GPU": 1}], {**TORCH, "device": "cpu"}, (16, "torch", 1, 0.75, 0)),
        ([{"CPU": 16, "GPU": 1}], {**OPENVINO, "device": "cpu"}, (2, "openvino", 8, 6.0, 0)),
        ([{}, {"CPU": 8}, {"CPU": 2}], OPENVINO, (5, "openvino", 2, 1.0, 0)),
        ([{}, {"CPU": 8, "GPU": 4}, {"CPU": 64}], {}, (8, "cuda", 1, 0.75, 0.5)),
    ],
)
def test_actors_leave_cpus_for_tasks_on_every_machine(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], settings: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    chosen = on(monkeypatch, nodes, **settings)
    assert (chosen.actors, chosen.engine, chosen.threads, chosen.actor_cpus, chosen.actor_gpus) == expected
    assert chosen.actors * chosen.actor_cpus <= sum(node.get("CPU", 0) for node in nodes) - 0.25


@pytest.mark.parametrize(
    ("nodes", "settings", "expected"),
    [
        ([{"CPU": 1}], TORCH, (0.12, 1)),
        ([{"CPU": 2}], TORCH, (0.25, 1)),
        ([{}, {"CPU": 1}, {"CPU": 1}], TORCH, (0.25, 1)),
        ([{"CPU": 3}], TORCH, (0.25, 2)),
        ([{"CPU": 2}], OPENVINO, (0.25, None)),
        ([{"CPU": 8, "GPU": 4}, {"CPU": 64}], {}, (0.25, None)),
    ],
)
def test_read_tasks_leave_cpus_for_write_tasks(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], settings: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    chosen = on(monkeypatch, nodes, **settings)
    assert (chosen.task_cpus, chosen.readers) == expected
    spare = sum(node.get("CPU", 0) for node in nodes) - chosen.actors * chosen.actor_cpus
    assert ((chosen.readers or 3) + 1) * chosen.task_cpus <= spare


@pytest.mark.parametrize("cpus", [1, 2, 3, 8, 64, 1000])
@pytest.mark.parametrize("requests", [1, 4, 30])
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_read_tasks_share_the_requests_to_a_host(
    cpus: int, requests: int, engine: Literal["torch", "openvino"]
) -> None:
    runtime = RuntimeConfig(engine=engine, requests_per_host=requests)
    over_http, others = (workers_on([{"CPU": cpus}], runtime, 1000, http) for http in (True, False))
    assert over_http.readers is not None
    assert requests / 2 < over_http.readers * over_http.requests_per_host <= requests
    assert over_http.readers <= (others.readers or cpus * 4)
    assert others.requests_per_host == over_http.requests_per_host


def test_the_batch_size_depends_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on(monkeypatch, [{"CPU": 2}]).batch_size < on(monkeypatch, [{"CPU": 2, "GPU": 1}]).batch_size
    assert on(monkeypatch, [{"CPU": 2}], batch_size=5).batch_size == 5


def test_there_are_no_more_actors_than_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on(monkeypatch, [{"CPU": 64}], chunks=3, engine="torch").actors == 3


def test_a_missing_gpu_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="Ray has no GPU"):
        on(monkeypatch, [{"CPU": 2}], device="cuda")


def test_dead_nodes_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 4}}, {"Alive": False, "Resources": {"CPU": 4}}]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert workers_for(RuntimeConfig(engine="torch"), 100).actors == 4


def alive(*nodes: dict[str, float]) -> list[dict[str, Any]]:
    return [{"Alive": True, "Resources": node} for node in nodes]


def test_a_head_without_cpus_waits_for_nodes_and_requests_one(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [alive({}), alive({}), alive({}, {"CPU": 4})]
    requested: list[Any] = []
    monkeypatch.setattr(ray, "nodes", lambda: states.pop(0) if len(states) > 1 else states[0])
    monkeypatch.setattr(cluster, "request_resources", lambda *, bundles: requested.append(bundles))
    monkeypatch.setattr(cluster.time, "sleep", lambda seconds: None)
    assert workers_for(RuntimeConfig(engine="torch"), 100).actors == 4
    assert requested == [[{"CPU": 1}], []], "and withdraws the request"


@pytest.mark.parametrize(
    ("nodes", "settings", "message"),
    [
        ([], {}, "no node with CPUs joined"),
        ([{}], {}, "no node with CPUs joined"),
        ([{}, {"CPU": 4}], {"device": "cuda"}, "Ray has no GPU"),
        ([{}, {"GPU": 1}], {"device": "cuda"}, "Ray has no GPU"),
    ],
)
def test_a_cluster_whose_nodes_never_join_is_bad_input(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], settings: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(cluster, "request_resources", lambda bundles: None)
    with pytest.raises(InputError, match=message):
        on(monkeypatch, nodes, wait_for_nodes_s=0.01, **settings)


TWO, FOUR, SIXTEEN = {"CPU": 2}, {"CPU": 4}, {"CPU": 16}
CARD = {"CPU": 16, "GPU": 1}


@pytest.mark.parametrize(
    ("before", "after", "chunks", "settings", "grown"),
    [
        ([{}, TWO], [{}, TWO], 100, TORCH, False),
        ([{}, TWO], [{}, TWO, TWO], 100, TORCH, True),
        ([{}, TWO], [{}, TWO, TWO], 7, TORCH, False),
        ([{}, TWO, TWO], [{}, TWO], 100, TORCH, False),
        ([{}, TWO], [{}], 100, TORCH, False),
        ([SIXTEEN] * 8, [*[SIXTEEN] * 8, {"CPU": 1}], 1000, TORCH, False),
        ([{}, TWO], [{}, TWO, TWO], 100, {**TORCH, "actors": 2}, True),  # with more threads
        ([{}, FOUR], [{}, FOUR, SIXTEEN], 100, OPENVINO, True),
        ([{}, CARD], [{}, CARD, CARD], 100, GPU, True),
        ([{}, SIXTEEN], [{}, SIXTEEN, CARD], 100, {**TORCH, **GPU}, True),  # a GPU is worth more than 16 CPUs
        ([{}, CARD, SIXTEEN], [{}, SIXTEEN], 100, {**TORCH, **GPU}, False),
    ],
)
def test_whether_new_nodes_make_the_job_rescale(
    monkeypatch: pytest.MonkeyPatch,
    before: list[dict[str, float]],
    after: list[dict[str, float]],
    chunks: int,
    settings: dict[str, Any],
    grown: bool,
) -> None:
    runtime = RuntimeConfig(grow_after_s=30, **settings)
    growth = ClusterGrowth(runtime, on(monkeypatch, before, grow_after_s=30, **settings))
    clock = [growth.last_check]
    monkeypatch.setattr(cluster.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(ray, "nodes", lambda: alive(*after))
    decisions = []
    for _ in range(9):
        clock[0] += 5
        decisions.append(growth.should_rescale(chunks))
    assert not any(decisions[:6]), "nodes must stay for grow_after_s"
    assert any(decisions) == grown
