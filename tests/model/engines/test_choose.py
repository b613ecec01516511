import pytest

from galaxy_batch.model.engines.choose import choose_engine, make_engine
from galaxy_batch.model.engines.openvino import OpenVinoEngine
from galaxy_batch.model.engines.torch_cpu import TorchEngine
from tests.support.engines import model_of


def test_openvino_is_chosen_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_engine() == "openvino"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert choose_engine() == "torch"


def test_engines_by_name() -> None:
    assert isinstance(make_engine("torch", model_of(), "fp32", 4, 1), TorchEngine)
    assert isinstance(make_engine("openvino", model_of(), "fp32", 4, 1), OpenVinoEngine)
