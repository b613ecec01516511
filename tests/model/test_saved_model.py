import dataclasses
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from galaxy_batch.errors import InputError
from galaxy_batch.model.saved_model import load_checkpoint, round_to_fp16, save_checkpoint
from tests.support.models import SavedModel, save_random_model
from train.evaluate.familiarity import measure_familiarity


def test_a_checkpoint_is_read_as_it_was_written(saved_model: SavedModel) -> None:
    checkpoint, model = load_checkpoint(saved_model.uri)
    assert checkpoint == saved_model.checkpoint
    assert len(checkpoint.checkpoint_id) == 16
    assert model.predict(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).class_logits.shape == (1, 2)
    assert not model.training


def test_statistics_of_the_training_galaxies_are_saved(saved_model: SavedModel, tmp_path: Path) -> None:
    checkpoint, model = load_checkpoint(saved_model.uri)
    assert model.familiarity is None, "a checkpoint without statistics can be read"
    pixels = torch.randint(0, 255, (30, 3, 64, 64), dtype=torch.uint8)
    model.familiarity = measure_familiarity(model, pixels, torch.device("cpu"), 0)
    uri = str(tmp_path / "m.safetensors")
    saved = save_checkpoint(uri, dataclasses.replace(checkpoint, max_unfamiliarity=1.7, max_instability=0.1), model)
    assert saved.checkpoint_id != checkpoint.checkpoint_id
    loaded, again = load_checkpoint(uri)
    assert loaded == saved
    assert np.array_equal(again.predict(pixels).unfamiliarity, model.predict(pixels).unfamiliarity)


def test_half_precision_halves_large_layers_of_the_file_and_keeps_the_rounded_model(
    saved_model: SavedModel, tmp_path: Path
) -> None:
    checkpoint, model = load_checkpoint(saved_model.uri)
    pixels = torch.randint(0, 255, (30, 3, 64, 64), dtype=torch.uint8)
    model.familiarity = measure_familiarity(model, pixels, torch.device("cpu"), 0)
    exact = model(pixels).class_logits
    round_to_fp16(model)
    file = tmp_path / "m.safetensors"
    save_checkpoint(str(file), checkpoint, model, fp16=True)
    _, again = load_checkpoint(str(file))
    assert torch.equal(again(pixels).class_logits, model(pixels).class_logits)
    assert torch.allclose(again(pixels).class_logits, exact, atol=2e-3)
    assert not torch.equal(again(pixels).class_logits, exact)
    assert file.stat().st_size < 0.8 * Path(saved_model.uri).stat().st_size
    stored = safetensors.torch.load_file(file)
    assert {t.dtype for n, t in stored.items() if t.numel() > 10_000} == {torch.float16}
    assert {t.dtype for n, t in stored.items() if t.dim() > 1 and t.numel() <= 10_000} == {torch.float32}


def test_statistics_that_do_not_fit_are_refused(saved_model: SavedModel, tmp_path: Path) -> None:
    tensors = safetensors.torch.load_file(saved_model.uri)
    with safetensors.safe_open(saved_model.uri, "pt") as file:
        about = file.metadata()
    for wrong in ({"mean": torch.zeros(3)}, {n: torch.zeros(3) for n in ("mean", "scale", "axes", "variance", "rest")}):
        strange = {f"familiarity.{name}": tensor for name, tensor in wrong.items()}
        safetensors.torch.save_file({**tensors, **strange}, tmp_path / "m.safetensors", about)
        with pytest.raises(InputError, match="do not fit"):
            load_checkpoint(str(tmp_path / "m.safetensors"))


def test_layers_that_do_not_fit_are_refused(saved_model: SavedModel, tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    save_with(file, saved_model, classifier=torch.zeros(2, 2))
    with pytest.raises(InputError, match="do not fit"):
        load_checkpoint(str(file))


def save_with(file: Path, model: SavedModel, **tensors: torch.Tensor) -> None:
    """The checkpoint with further tensors."""
    with safetensors.safe_open(model.uri, "pt") as original:
        about = original.metadata()
    safetensors.torch.save_file({**safetensors.torch.load_file(model.uri), **tensors}, file, about)


def test_the_id_depends_on_the_content_only(tmp_path: Path) -> None:
    first = save_random_model(tmp_path / "a.safetensors", seed=1)
    again = save_random_model(tmp_path / "b.safetensors", seed=1)
    other = save_random_model(tmp_path / "c.safetensors", seed=2)
    assert first.checkpoint.checkpoint_id == again.checkpoint.checkpoint_id != other.checkpoint.checkpoint_id
