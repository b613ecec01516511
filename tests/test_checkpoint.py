import struct
from pathlib import Path

import pytest
import torch

from galaxy_batch.checkpoint import load_checkpoint
from galaxy_batch.errors import InputError
from tests.conftest import SavedModel, save_random_model


def test_a_checkpoint_comes_back_as_it_was(saved_model: SavedModel) -> None:
    checkpoint, model = load_checkpoint(saved_model.uri)
    assert checkpoint == saved_model.checkpoint
    assert len(checkpoint.checkpoint_id) == 16
    assert model(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).shape == (1, 2)
    assert not model.training


def test_the_id_is_the_contents(tmp_path: Path) -> None:
    first = save_random_model(tmp_path / "a.safetensors", seed=1)
    again = save_random_model(tmp_path / "b.safetensors", seed=1)
    other = save_random_model(tmp_path / "c.safetensors", seed=2)
    assert first.checkpoint.checkpoint_id == again.checkpoint.checkpoint_id != other.checkpoint.checkpoint_id


def test_what_is_no_checkpoint_is_refused(tmp_path: Path, saved_model: SavedModel) -> None:
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
