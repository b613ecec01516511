import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch

from galaxy_batch.errors import InputError
from galaxy_batch.model.checkpoint import read_checkpoint
from tests.support.models import SavedModel


def test_a_description_is_read_without_the_model(saved_model: SavedModel) -> None:
    file = read_checkpoint(saved_model.uri)
    assert file.checkpoint == saved_model.checkpoint
    assert not file.has_statistics
    assert file.content == Path(saved_model.uri).read_bytes()


def test_incomplete_statistics_are_refused(saved_model: SavedModel, tmp_path: Path) -> None:
    with safetensors.safe_open(saved_model.uri, "pt") as original:
        about = original.metadata()
    names = ("mean", "scale", "axes", "variance", "rest")
    tensors = {f"familiarity.{name}": torch.zeros(1) for name in names}
    file = tmp_path / "m.safetensors"
    safetensors.torch.save_file(tensors, file, about)
    assert read_checkpoint(str(file)).has_statistics
    del tensors["familiarity.axes"]
    safetensors.torch.save_file(tensors, file, about)
    with pytest.raises(InputError, match=r"do not fit.*familiarity\.axes"):
        read_checkpoint(str(file))


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, saved_model: SavedModel) -> None:
    content = Path(saved_model.uri).read_bytes()
    header = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    cases = {
        "empty": b"",
        "text": b"not a checkpoint at all",
        "cut": content[: len(content) // 2],
        "without its last byte": content[:-1],
        "no description": struct.pack("<Q", len(header)) + header + b"\0" * 4,
    }
    for bad in cases.values():
        (tmp_path / "m.safetensors").write_bytes(bad)
        with pytest.raises(InputError, match="checkpoint_uri"):
            read_checkpoint(str(tmp_path / "m.safetensors"))
    with pytest.raises(InputError, match="no such file"):
        read_checkpoint(str(tmp_path / "none.safetensors"))
