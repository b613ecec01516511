from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from galaxy_batch.errors import InputError
from galaxy_batch.model.network import build_model
from galaxy_batch.model.spec import PRETRAINED, ModelSpec
from galaxy_batch.model.weights import read_weights
from tests.support.models import save_random_model

SPEC = ModelSpec("test_efficientnet", ("smooth", "featured"), 64, 1.0, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
State = dict[str, torch.Tensor]


def network_weights(seed: int = 1, classes: int = 1000) -> State:
    torch.manual_seed(seed)
    return timm.create_model("test_efficientnet", num_classes=classes).state_dict()


def with_prefix(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_weights_from_a_file_reach_the_backbone_but_not_a_head_of_another_shape(tmp_path: Path, ending: str) -> None:
    torch.manual_seed(1)
    source = timm.create_model("test_efficientnet", num_classes=1000).state_dict()
    path = tmp_path / f"w.{ending}"
    safetensors.torch.save_file(source, path) if ending == "safetensors" else torch.save({"state_dict": source}, path)
    state = build_model(SPEC, str(path)).backbone.state_dict()
    assert torch.equal(state["conv_stem.weight"], source["conv_stem.weight"])
    assert state["classifier.weight"].shape == (2, 256)


def test_weights_that_do_not_fit_name_the_layers(tmp_path: Path) -> None:
    source = timm.create_model("test_efficientnet").state_dict()
    del source["bn1.weight"]
    source["conv_stem.weight"] = source["conv_stem.weight"][:3]
    source["strange.layer"] = torch.zeros(1)
    torch.save(source, tmp_path / "w.pth")
    with pytest.raises(InputError) as caught:
        build_model(SPEC, str(tmp_path / "w.pth"))
    for part in ("bn1.weight (missing)", "conv_stem.weight (file (3, ", "strange.layer (not in the model)"):
        assert part in str(caught.value)


def test_a_weights_file_cannot_run_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    torch.save({"w": Trap()}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="not a plain PyTorch state dict"):
        read_weights(str(tmp_path / "w.pth"))
    assert not (tmp_path / "ran").exists()


def test_files_without_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"x" * 100)
    (tmp_path / "w.pth").write_bytes(b"x" * 100)
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("w.safetensors", "w.pth", "list.pth", "none.pth"):
        with pytest.raises(InputError, match="weights"):
            read_weights(str(tmp_path / name))


@pytest.mark.parametrize(
    ("wrap", "said"),
    [
        (lambda s: with_prefix("module.", s), "prefix 'module.' removed"),
        (lambda s: with_prefix("encoder.", s) | {"head.1.weight": torch.zeros(2)}, "prefix: head.1.weight (1 tensors)"),
        (lambda s: with_prefix("_orig_mod.", s), "classifier head starts at random"),
        (lambda s: with_prefix("module._orig_mod.", s) | {"n_averaged": torch.tensor(3)}, "prefix 'module.' removed"),
        (lambda s: with_prefix("model.backbone.", s), "prefix 'model.backbone.' removed"),
        (lambda s: with_prefix("0.", s) | {"1.weight": torch.zeros(2, 2)}, "prefix '0.' removed"),
        (lambda s: {n.replace("blocks.", "blocks._orig_mod."): t for n, t in s.items()}, "classifier head"),
        (lambda s: {"model_state_dict": with_prefix("net.", s), "epoch": 3}, "wrapper 'model_state_dict' and prefix"),
        (
            lambda s: {"epoch": 9, "ema": {"model": s}, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
            "ema.model",
        ),
        (lambda s: {"state_dict": network_weights(2), "state_dict_ema": s}, "wrapper 'state_dict_ema' removed"),
        (lambda s: {n: t for n, t in s.items() if not n.endswith("num_batches_tracked")}, "classifier head"),
        (lambda s: {n: t for n, t in s.items() if "classifier" not in n}, "classifier head starts at random"),
        (lambda s: s | {"classifier.1.weight": torch.zeros(5, 5)}, "classifier head starts at random"),
    ],
)
def test_wrappers_and_prefixes_of_other_files_are_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wrap: Callable[[State], object], said: str
) -> None:
    source = network_weights()
    torch.save(wrap(source), tmp_path / "w.pth")
    with caplog.at_level("INFO"):
        state = build_model(SPEC, str(tmp_path / "w.pth")).backbone.state_dict()
    for name, tensor in state.items():
        if "classifier" not in name and not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, source[name]), name
    assert said in caplog.text


def test_a_checkpoint_of_ours_is_a_starting_point(tmp_path: Path) -> None:
    saved = save_random_model(tmp_path / "model.safetensors", seed=3)
    content = safetensors.torch.load_file(saved.uri)
    safetensors.torch.save_file(content | {"familiarity.scale": torch.ones(5)}, tmp_path / "model.safetensors")
    state = build_model(SPEC, saved.uri).backbone.state_dict()
    assert all(torch.equal(tensor, content[name]) for name, tensor in state.items()), "the head too: the same classes"


def test_weights_of_another_network_show_names_of_both_sides(tmp_path: Path) -> None:
    torch.save({"stem.0.weight": torch.zeros(3), "stem.0.bias": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(InputError) as caught:
        build_model(SPEC, str(tmp_path / "w.pth"))
    for part in ("file has stem.0.weight, stem.0.bias (2 tensors)", "model has conv_stem.weight, bn1.weight"):
        assert part in str(caught.value)


def test_an_unreachable_hub_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    spec = ModelSpec("efficientnet_b0", ("a", "b"), 64, 1.0, (0.5,) * 3, (0.5,) * 3)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", closed)
    with pytest.raises(InputError, match="give the URI of a weights file"):
        build_model(spec, PRETRAINED)


def test_real_pretrained_weights_fit(sky: Path) -> None:
    spec = ModelSpec("tf_efficientnet_lite0", ("smooth", "featured"), 224, 1.0, (0.5,) * 3, (0.5,) * 3)
    file = sky / "weights" / "tf_efficientnet_lite0_imagenet_timm.pth"
    state = build_model(spec, str(file)).backbone.state_dict()
    assert torch.equal(state["conv_head.weight"], read_weights(str(file))["conv_head.weight"])
