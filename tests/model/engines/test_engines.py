from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch

from galaxy_batch.cutouts.decode import decode, resize
from galaxy_batch.errors import InputError
from galaxy_batch.model.engines.choose import Answer, Engine, EngineName, choose_engine, make_engine
from galaxy_batch.model.network import RANDOM, ModelSpec, MorphologyModel, build_model
from train.evaluate.familiarity import measure_familiarity


def answer(engine: Engine, pixels: torch.Tensor) -> np.ndarray:
    return engine.compute(engine.load(list(pixels))).result()


CPU_ENGINES: tuple[EngineName, ...] = ("torch", "openvino")


def model_of(architecture: str = "test_efficientnet", size: int = 64, views: int = 1) -> MorphologyModel:
    torch.manual_seed(5)
    model = build_model(ModelSpec(architecture, ("a", "b"), size, 1.0, (0.5,) * 3, (0.3,) * 3, views), RANDOM)
    torch.nn.init.normal_(model.backbone.get_classifier().weight)  # answers that differ
    return model


def pixels_of(count: int, size: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def expected(model: MorphologyModel, pixels: torch.Tensor) -> np.ndarray:
    return model.answer(pixels).numpy()


@pytest.mark.parametrize(("views", "stability_views"), [(1, 1), (1, 2), (4, 1)])
@pytest.mark.parametrize("name", CPU_ENGINES)
def test_every_engine_gives_the_models_own_answers(name: EngineName, views: int, stability_views: int) -> None:
    model = model_of(views=views)
    model.stability_views = stability_views
    model.familiarity = measure_familiarity(model, pixels_of(40), torch.device("cpu"), 0)
    engine = make_engine(name, model, "fp32", batch_size=4, threads=2)
    for count in (4, 1, 3):  # the last batch of a chunk is smaller
        pixels = pixels_of(count)
        found = answer(engine, pixels)
        assert found.shape == (count, 4)
        assert found.dtype == np.float32
        assert np.allclose(found, expected(model, pixels), rtol=1e-3, atol=1e-4, equal_nan=True)
        assert np.isnan(found).any(axis=0).tolist() == [False, False, False, views == stability_views == 1]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", CPU_ENGINES)
def test_a_cutouts_answer_does_not_depend_on_its_neighbours(name: EngineName, threads: int) -> None:
    pixels, model = pixels_of(8, 96), model_of("efficientnet_b0", 96)
    model.familiarity = measure_familiarity(model, pixels, torch.device("cpu"), 0)
    engine = make_engine(name, model, "fp32", batch_size=8, threads=threads)
    together = answer(engine, pixels)
    for few in ([0], [5], [7, 2], [6, 1, 0, 4, 3]):
        assert np.array_equal(answer(engine, pixels[few]), together[few], equal_nan=True), few
    torch.set_num_threads(1)


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_answers_come_to_those_who_asked(name: EngineName) -> None:
    model = model_of()
    engine = make_engine(name, model, "fp32", batch_size=2, threads=2)
    batches = pixels_of(16).split(2)
    waiting: deque[tuple[torch.Tensor, Answer]] = deque()
    for batch in batches:
        if len(waiting) > engine.in_flight:
            check(model, *waiting.popleft())
        waiting.append((batch, engine.compute(engine.load(list(batch)))))
    for batch, found in reversed(waiting):
        check(model, batch, found)


def check(model: MorphologyModel, batch: torch.Tensor, found: Answer) -> None:
    assert np.allclose(found.result(), expected(model, batch), atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_bf16_is_near(name: EngineName) -> None:
    model = model_of()
    pixels = pixels_of(4)
    rounded = answer(make_engine(name, model, "bf16", batch_size=4, threads=1), pixels)[:, :2]
    exact = expected(model, pixels)[:, :2]
    assert np.abs(rounded - exact).max() < 0.1 * np.abs(exact).max()


def test_openvino_agrees_with_torch_on_real_galaxies(sky: Path) -> None:
    """The bar: the same class for 99.9 %, and 99 % of the probabilities within 0.01."""
    weights = sky / "weights" / "tf_efficientnet_lite0_imagenet_timm.pth"
    torch.manual_seed(0)
    model = build_model(ModelSpec("tf_efficientnet_lite0", ("a", "b"), 160, 0.6, (0.5,) * 3, (0.5,) * 3), str(weights))
    torch.nn.init.normal_(model.backbone.get_classifier().weight, std=0.3)
    files = sorted((sky / "sdss_dr7" / "images").iterdir())[:48]
    pixels = torch.stack([resize(decode(f.read_bytes(), 10**6), 160, 0.6) for f in files])
    engine = make_engine("openvino", model, "fp32", batch_size=16, threads=1)
    answers = torch.cat([torch.from_numpy(answer(engine, batch)) for batch in pixels.split(16)])
    found = answers[:, :2].softmax(1)
    wanted = torch.from_numpy(expected(model, pixels))[:, :2].softmax(1)
    assert wanted[:, 0].std() > 0.1  # it is not one answer for all
    assert torch.equal(found.argmax(1), wanted.argmax(1))
    assert (found - wanted).abs().max() < 1e-3


def test_openvino_is_chosen_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_engine() == "openvino"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert choose_engine() == "torch"


def test_openvino_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(InputError, match=r"runtime\.engine.*not installed"):
        make_engine("openvino", model_of(), "fp32", 4, 1)


@pytest.mark.gpu
@pytest.mark.parametrize("count", [4, 1])
def test_the_gpu_gives_the_models_own_answers(count: int) -> None:
    model, pixels = model_of(views=2), pixels_of(count)
    model.familiarity = measure_familiarity(model, pixels_of(40), torch.device("cpu"), 0)
    wanted = expected(model, pixels)
    engine = make_engine("cuda", model, "fp32", batch_size=4, threads=1)
    assert np.allclose(answer(engine, pixels), wanted, atol=1e-3)
