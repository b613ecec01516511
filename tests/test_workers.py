from typing import Any

import pytest
import ray

from galaxy_batch.config import RuntimeConfig
from galaxy_batch.errors import InputError
from galaxy_batch.workers import Workers, workers_for


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
