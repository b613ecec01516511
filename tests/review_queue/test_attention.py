"""Attention maps of a queue are those of its checkpoint, of the pictures in its folder."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from galaxy_batch.cutouts.decode import decode
from galaxy_batch.cutouts.resize import resize
from galaxy_batch.errors import InputError
from galaxy_batch.model.grad_cam import fine_grad_cam
from galaxy_batch.model.saved_model import load_checkpoint
from galaxy_batch.review_queue import attention
from galaxy_batch.review_queue.attention import attention_maps
from tests.support.models import SavedModel, save_random_model
from tests.support.review_pages import review_queue


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> SavedModel:
    return save_random_model(tmp_path_factory.mktemp("models") / "model.safetensors", seed=3)


def manifest_of(saved: SavedModel) -> Any:
    return SimpleNamespace(model_id=saved.checkpoint.checkpoint_id, config={"classify": {}})


def test_maps_are_those_of_the_pictures(saved: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_BATCH", 4)
    queue = review_queue(tmp_path / "first", 7)
    (tmp_path / "first" / "pictures" / "000" / "00005.jpg").unlink()
    (tmp_path / "first" / "pictures" / "000" / "00006.jpg").write_bytes(b"no picture")
    made = attention_maps(queue, manifest_of(saved), saved.uri)
    assert made is not None
    assert sorted(made.maps) == [1, 2, 4, 7]  # 3 has none, 5 and 6 are damaged
    spec = saved.checkpoint.spec
    assert (made.cells, made.crop_fraction) == (spec.size_px // 8, spec.crop_fraction)
    content = (tmp_path / "first" / "pictures" / "000" / "00007.jpg").read_bytes()
    pixels = torch.from_numpy(resize(decode(content, 10**6), spec.size_px, spec.crop_fraction))[None]
    expected = fine_grad_cam(load_checkpoint(saved.uri)[1], pixels, np.array([0]))
    assert expected is not None
    values = np.frombuffer(made.maps[7], np.uint8).reshape(made.cells, made.cells)
    assert values.max() == 255
    np.testing.assert_allclose(values / 255, expected[0].sqrt().numpy(), atol=0.02)


def test_another_checkpoint_is_refused(saved: SavedModel, tmp_path: Path) -> None:
    queue = review_queue(tmp_path / "first", 2)
    other = SimpleNamespace(model_id="0123456789abcdef", config={"classify": {}})
    with pytest.raises(InputError, match=r"checkpoint_uri = .*the catalog was made with 0123456789abcdef"):
        attention_maps(queue, other, saved.uri)  # type: ignore[arg-type]
