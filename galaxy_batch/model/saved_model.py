"""A trained model, written to and built from its checkpoint."""

import dataclasses

import safetensors
import safetensors.torch
import torch

from galaxy_batch.errors import InputError
from galaxy_batch.model.checkpoint import (
    EMBEDDING,
    FAMILIARITY,
    QUESTIONS,
    Checkpoint,
    CheckpointFile,
    content_id,
    file_metadata,
    read_checkpoint,
)
from galaxy_batch.model.embedding import Embedding
from galaxy_batch.model.familiarity import Familiarity
from galaxy_batch.model.network import MorphologyModel
from galaxy_batch.storage.files import write_atomically

__all__ = ["load_checkpoint", "load_model", "round_to_fp16", "save_checkpoint"]

_MAX_FP32 = 10_000  # numbers in a layer that stays in full precision where others are stored in half


def save_checkpoint(uri: str, checkpoint: Checkpoint, model: MorphologyModel, fp16: bool = False) -> Checkpoint:
    """Write one `.safetensors` file; returns the checkpoint with its content id.

    The same tensors and description always give the same bytes, hence the same id.

    Args:
        uri: of the file.
        checkpoint: its description.
        model: its tensors.
        fp16: store the weights in half precision, as `round_to_fp16` rounds them.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(_tensors(model).items())}
    if fp16:
        tensors = {name: tensor.half() if _has_fp16(name, tensor) else tensor for name, tensor in tensors.items()}
    content = safetensors.torch.save(tensors, metadata=file_metadata(checkpoint))
    write_atomically(uri, content)
    return dataclasses.replace(checkpoint, checkpoint_id=content_id(content))


def round_to_fp16(model: MorphologyModel) -> None:
    """Round the weights to half precision, in place: then a file with `fp16` has exactly this model."""
    with torch.no_grad():
        for name, tensor in _tensors(model).items():
            if _has_fp16(name, tensor):
                tensor.copy_(tensor.half())


def load_checkpoint(uri: str) -> tuple[Checkpoint, MorphologyModel]:
    """Read a checkpoint and build its model: `read_checkpoint` and `load_model`, with their errors."""
    file = read_checkpoint(uri)
    return file.checkpoint, load_model(file)


def load_model(file: CheckpointFile) -> MorphologyModel:
    """The model of a checkpoint that has been read, in eval mode on the CPU.

    Raises:
        InputError: timm has no such architecture, or the layers do not fit it.
    """
    model = MorphologyModel(file.checkpoint.spec)
    try:
        tensors: dict[str, torch.Tensor] = safetensors.torch.load(file.content)
        statistics, questions, embedding = (_take(tensors, p) for p in (FAMILIARITY, QUESTIONS, EMBEDDING))
        model.backbone.load_state_dict(tensors)
        if model.questions is not None:
            model.questions.load_state_dict(questions)
        if statistics:
            model.familiarity = Familiarity(**statistics)
        if embedding:
            model.embedding = Embedding(**embedding)
        if len(embedding.get("components", ())) != file.checkpoint.spec.embedding_size:
            raise ValueError(f"the embedding does not have {file.checkpoint.spec.embedding_size} components")
    except (safetensors.SafetensorError, RuntimeError, TypeError, ValueError) as error:
        raise InputError("checkpoint_uri", file.uri, f"the tensors do not fit the description: {error}") from None
    return model.eval()


def _take(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Move the tensors of one module out of those of a file."""
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in names}


def _tensors(model: MorphologyModel) -> dict[str, torch.Tensor]:
    """The tensors of a model by their names in the file."""
    tensors = dict(model.backbone.state_dict())
    modules = {FAMILIARITY: model.familiarity, QUESTIONS: model.questions, EMBEDDING: model.embedding}
    for prefix, module in modules.items():
        if module is not None:
            tensors |= {prefix + name: tensor for name, tensor in module.state_dict().items()}
    return tensors


def _has_fp16(name: str, tensor: torch.Tensor) -> bool:
    """Large convolutions and linear layers.

    The small ones, mostly of the first blocks, decide most of the rounding error, and take 2% of the file. The numbers
    of batch norms and of familiarity may exceed the range.
    """
    large = tensor.is_floating_point() and tensor.dim() > 1 and tensor.numel() > _MAX_FP32
    return large and not name.startswith(FAMILIARITY)
