from typing import Any

import pytest
import ray

from galaxy_batch.config import RuntimeConfig
from galaxy_batch.errors import InputError
from galaxy_batch.runtime import workers
from galaxy_batch.runtime.workers import Growth, Workers, workers_for


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
def test_actors_leave_room_on_every_machine(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], settings: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    found = on(monkeypatch, nodes, **settings)
    assert (found.actors, found.engine, found.threads, found.actor_cpus, found.actor_gpus) == expected
    assert found.actors * found.actor_cpus <= sum(node.get("CPU", 0) for node in nodes) - 0.25


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
def test_tasks_that_read_leave_room_for_those_that_write(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], settings: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    found = on(monkeypatch, nodes, **settings)
    assert (found.task_cpus, found.readers) == expected
    spare = sum(node.get("CPU", 0) for node in nodes) - found.actors * found.actor_cpus
    assert ((found.readers or 3) + 1) * found.task_cpus <= spare


def test_batches_suit_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on(monkeypatch, [{"CPU": 2}]).batch_size < on(monkeypatch, [{"CPU": 2, "GPU": 1}]).batch_size
    assert on(monkeypatch, [{"CPU": 2}], batch_size=5).batch_size == 5


def test_no_more_actors_than_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on(monkeypatch, [{"CPU": 64}], chunks=3, engine="torch").actors == 3


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="Ray has no GPU"):
        on(monkeypatch, [{"CPU": 2}], device="cuda")


def test_nodes_that_left_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 4}}, {"Alive": False, "Resources": {"CPU": 4}}]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert workers_for(RuntimeConfig(engine="torch"), 100).actors == 4


def alive(*nodes: dict[str, float]) -> list[dict[str, Any]]:
    return [{"Alive": True, "Resources": node} for node in nodes]


def test_a_head_without_work_waits_for_its_nodes_and_asks_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [alive({}), alive({}), alive({}, {"CPU": 4})]
    asked: list[Any] = []
    monkeypatch.setattr(ray, "nodes", lambda: looks.pop(0) if len(looks) > 1 else looks[0])
    monkeypatch.setattr(workers, "request_resources", lambda *, bundles: asked.append(bundles))
    monkeypatch.setattr(workers.time, "sleep", lambda seconds: None)
    assert workers_for(RuntimeConfig(engine="torch"), 100).actors == 4
    assert asked == [[{"CPU": 1}], []], "and takes back what it asked for"


@pytest.mark.parametrize(
    ("nodes", "settings", "message"),
    [
        ([], {}, "no node with CPUs to work on came"),
        ([{}], {}, "no node with CPUs to work on came"),
        ([{}, {"CPU": 4}], {"device": "cuda"}, "Ray has no GPU"),
        ([{}, {"GPU": 1}], {"device": "cuda"}, "Ray has no GPU"),
    ],
)
def test_a_cluster_whose_nodes_never_come_is_bad_input(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], settings: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(workers, "request_resources", lambda bundles: None)
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
        ([{}, TWO], [{}, TWO, TWO], 100, {**TORCH, "actors": 2}, True),  # of more threads
        ([{}, FOUR], [{}, FOUR, SIXTEEN], 100, OPENVINO, True),
        ([{}, CARD], [{}, CARD, CARD], 100, GPU, True),
        ([{}, SIXTEEN], [{}, SIXTEEN, CARD], 100, {**TORCH, **GPU}, True),  # a GPU is worth more than 16 CPUs
        ([{}, CARD, SIXTEEN], [{}, SIXTEEN], 100, {**TORCH, **GPU}, False),
    ],
)
def test_nodes_that_came_later_are_worth_a_new_start_or_not(
    monkeypatch: pytest.MonkeyPatch,
    before: list[dict[str, float]],
    after: list[dict[str, float]],
    chunks: int,
    settings: dict[str, Any],
    grown: bool,
) -> None:
    runtime = RuntimeConfig(grow_after_s=30, **settings)
    growth = Growth(runtime, on(monkeypatch, before, grow_after_s=30, **settings))
    clock = [growth.looked]
    monkeypatch.setattr(workers.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(ray, "nodes", lambda: alive(*after))
    said = []
    for _ in range(9):
        clock[0] += 5
        said.append(growth.should_rescale(chunks))
    assert not any(said[:6]), "nodes that go again at once are not worth it"
    assert any(said) == grown
