import dataclasses
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch

from galaxy_batch.errors import InputError
from galaxy_batch.model.checkpoint import load_checkpoint, round_to_fp16, save_checkpoint
from tests.support.models import SavedModel, save_random_model
from train.evaluate.familiarity import measure_familiarity


def test_a_checkpoint_is_read_as_it_was_written(saved_model: SavedModel) -> None:
    checkpoint, model = load_checkpoint(saved_model.uri)
    assert checkpoint == saved_model.checkpoint
    assert len(checkpoint.checkpoint_id) == 16
    assert model(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).shape == (1, 2)
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
    assert torch.equal(again.predict(pixels).unfamiliarity, model.predict(pixels).unfamiliarity)


def test_half_precision_halves_the_file_and_keeps_the_rounded_model(saved_model: SavedModel, tmp_path: Path) -> None:
    checkpoint, model = load_checkpoint(saved_model.uri)
    pixels = torch.randint(0, 255, (30, 3, 64, 64), dtype=torch.uint8)
    model.familiarity = measure_familiarity(model, pixels, torch.device("cpu"), 0)
    exact = model(pixels)
    round_to_fp16(model)
    file = tmp_path / "m.safetensors"
    save_checkpoint(str(file), checkpoint, model, fp16=True)
    _, again = load_checkpoint(str(file))
    assert torch.equal(again(pixels), model(pixels))
    assert torch.allclose(again(pixels), exact, atol=2e-3)
    assert not torch.equal(again(pixels), exact)
    assert file.stat().st_size < 0.65 * Path(saved_model.uri).stat().st_size


def test_statistics_that_do_not_fit_are_refused(saved_model: SavedModel, tmp_path: Path) -> None:
    tensors = safetensors.torch.load_file(saved_model.uri)
    with safetensors.safe_open(saved_model.uri, "pt") as file:
        about = file.metadata()
    for wrong in ({"mean": torch.zeros(3)}, {n: torch.zeros(3) for n in ("mean", "scale", "axes", "variance", "rest")}):
        strange = {f"familiarity.{name}": tensor for name, tensor in wrong.items()}
        safetensors.torch.save_file({**tensors, **strange}, tmp_path / "m.safetensors", about)
        with pytest.raises(InputError, match="do not fit"):
            load_checkpoint(str(tmp_path / "m.safetensors"))


def test_the_id_depends_on_the_content_only(tmp_path: Path) -> None:
    first = save_random_model(tmp_path / "a.safetensors", seed=1)
    again = save_random_model(tmp_path / "b.safetensors", seed=1)
    other = save_random_model(tmp_path / "c.safetensors", seed=2)
    assert first.checkpoint.checkpoint_id == again.checkpoint.checkpoint_id != other.checkpoint.checkpoint_id


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, saved_model: SavedModel) -> None:
    content = Path(saved_model.uri).read_bytes()
    header = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    cases = {
        "empty": b"",
        "text": b"not a checkpoint at all",
        "cut": content[: len(content) // 2],
        "no description": struct.pack("<Q", len(header)) + header + b"\0" * 4,
    }
    for bad in cases.values():
        (tmp_path / "m.safetensors").write_bytes(bad)
        with pytest.raises(InputError, match="checkpoint_uri"):
            load_checkpoint(str(tmp_path / "m.safetensors"))
    with pytest.raises(InputError, match="no such file"):
        load_checkpoint(str(tmp_path / "none.safetensors"))
