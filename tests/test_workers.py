from typing import Any

import pytest
import ray

from galaxy_batch.config import RuntimeConfig
from galaxy_batch.errors import InputError
from galaxy_batch.workers import Workers, workers_for


def on(monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], chunks: int = 1000, **settings: Any) -> Workers:
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": node} for node in nodes])
    return workers_for(RuntimeConfig(**settings), chunks)


@pytest.mark.parametrize(
    ("nodes", "settings", "expected"),
    [
        ([{"CPU": 1}], {}, (1, "cpu", 1, 0.75)),
        ([{"CPU": 2}], {}, (2, "cpu", 1, 0.75)),
        ([{"CPU": 2}], {"actors": 1}, (1, "cpu", 2, 1.0)),
        ([{"CPU": 16, "GPU": 1}], {}, (1, "cuda", 16, 12.0)),
        ([{"CPU": 16, "GPU": 1}], {"device": "cpu"}, (16, "cpu", 1, 0.75)),
        ([{}, {"CPU": 8}, {"CPU": 8}], {}, (16, "cpu", 1, 0.75)),
        ([{}, {"CPU": 8, "GPU": 4}, {"CPU": 64}], {}, (4, "cuda", 2, 1.0)),
    ],
)
def test_actors_leave_room_on_every_machine(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, float]], settings: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    workers = on(monkeypatch, nodes, **settings)
    assert (workers.actors, workers.device, workers.threads, workers.actor_cpus) == expected
    assert workers.actors * workers.actor_cpus <= sum(node.get("CPU", 0) for node in nodes) - 0.25


def test_no_more_actors_than_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert on(monkeypatch, [{"CPU": 64}], chunks=3).actors == 3


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="Ray has no GPU"):
        on(monkeypatch, [{"CPU": 2}], device="cuda")


def test_nodes_that_left_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 4}}, {"Alive": False, "Resources": {"CPU": 4}}]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert workers_for(RuntimeConfig(), 100).actors == 4
