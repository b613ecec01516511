"""Initial weights of a network: from timm's hub, a checkpoint of this project, or other people's weights files."""

import io
import logging
import pickle
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import safetensors
import safetensors.torch
import timm
import torch
from torch import nn

from galaxy_batch.checkpoints import read_model_file
from galaxy_batch.errors import InputError

__all__ = ["hub_weights", "load_weights", "read_weights"]

logger = logging.getLogger(__name__)

Tensors = Mapping[str, torch.Tensor]

_MAX_DEPTH = 3  # of state dicts in a file
_SHOWN = 4  # names of each kind in messages
_INNER_WRAPPERS = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")  # torch.compile, FSDP
_OWN_STATISTICS = "familiarity."  # tensors of our checkpoints beside the network
_COUNTER = "num_batches_tracked"  # of batch norm; absent in old files, and unused at a fixed momentum


@dataclass(frozen=True)
class _StateDict:
    """A state dict of a file, with the model's names as far as they match."""

    wrapper: str
    """Where it stands in the file, such as `state_dict`; empty for the file itself."""
    prefix: str
    """Before the model's names, such as `module.`."""
    tensors: Tensors
    """By name without the prefix."""
    others: tuple[str, ...]
    """Names of tensors without the prefix, which are not loaded."""
    fitting: int
    """Number of tensors with name and shape of the model."""


def hub_weights(architecture: str) -> Tensors:
    """The weights that timm publishes for an architecture.

    Raises:
        InputError: the hub cannot be reached.
    """
    try:
        model = timm.create_model(architecture, pretrained=True)
    except Exception as error:  # noqa: BLE001 - the hub's client raises many types; all mean the same to a user
        raise InputError(
            "weights",
            "pretrained",
            f"cannot download {architecture} from the model hub ({type(error).__name__}); "
            "without a network, give the URI of a weights file, or 'random'",
        ) from None
    return dict(model.state_dict())


def read_weights(uri: str) -> Mapping[str, Any]:
    """The content of a `.safetensors` file or of a PyTorch file of plain values; neither can run code.

    Raises:
        InputError: there is no such file, or it is neither format.
    """
    try:
        content = read_model_file(uri, "weights")
    except FileNotFoundError:
        raise InputError("weights", uri, "no such file; give a file, 'pretrained' or 'random'") from None
    if uri.endswith(".safetensors") or uri.startswith("builtin:"):
        try:
            return dict(safetensors.torch.load(content))
        except safetensors.SafetensorError as error:
            raise InputError("weights", uri, f"not a safetensors file: {error}") from None
    try:
        values = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError("weights", uri, f"not a plain PyTorch state dict: {str(error).splitlines()[0]}") from None
    if not any(True for _ in _nested_tensors(values)):
        raise InputError("weights", uri, "not a state dict: it holds no tensors by name")
    return dict(values)


def load_weights(backbone: nn.Module, content: Mapping[str, Any], origin: str, architecture: str) -> None:
    """Load the state dict of a file that fits a backbone best; the log says which, and what was left out.

    Wrappers (`state_dict`, `model`, …) and prefixes (`module.`, `encoder.`, `backbone.`, …) are recognised by the
    backbone's names behind them. Of equal ones, an exponential moving average is preferred (`state_dict_ema`). The
    classifier head is loaded only where it has the same shape.

    Raises:
        InputError: layers are missing, unknown or of another shape; shows names of both sides.
    """
    own = backbone.state_dict()
    head = backbone.get_classifier()  # type: ignore[operator]
    pointers = {parameter.data_ptr() for parameter in head.parameters()}
    head_names = {name for name, tensor in own.items() if tensor.data_ptr() in pointers}
    head_prefixes = tuple({name.rpartition(".")[0] + "." for name in head_names})
    candidates = [_matched(wrapper, tensors, own) for wrapper, tensors in _nested_tensors(content)]
    best = max(candidates, key=lambda c: (c.fitting, "ema" in c.wrapper))
    misfits = [
        f"{name} (file {tuple(best.tensors[name].shape)}, model {tuple(tensor.shape)})"
        if name in best.tensors
        else f"{name} (missing)"
        for name, tensor in own.items()
        if name not in head_names and not _fits(name, best.tensors, tensor)
    ]
    unknown = [
        f"{name} (not in the model)"
        for name in best.tensors
        if name not in own and not name.startswith((*head_prefixes, _OWN_STATISTICS))
    ]
    if misfits or unknown:
        problems = "; ".join([*misfits[:_SHOWN], *unknown[:_SHOWN]])
        more = max(0, len(misfits) - _SHOWN) + max(0, len(unknown) - _SHOWN)
        raise InputError(
            "weights",
            origin,
            f"layers do not fit {architecture}: {problems}{f' and {more} more' if more else ''}. "
            f"The file has {_listed([*best.tensors, *best.others])}; the model has {_listed(own)}",
        )
    fitting = {name: best.tensors[name] for name, tensor in own.items() if _has(name, best.tensors, tensor)}
    backbone.load_state_dict(fitting, strict=False)
    _log(best, origin, head_names <= fitting.keys())


def _nested_tensors(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Tensors]]:
    """State dicts in a file, with their place in it: mappings that have tensors by name."""
    if not isinstance(values, Mapping):
        return
    tensors = {name: value for name, value in values.items() if isinstance(name, str) and torch.is_tensor(value)}
    if tensors:
        yield ".".join(path), tensors
    if len(path) < _MAX_DEPTH:
        for name, value in values.items():
            if isinstance(name, str):
                yield from _nested_tensors(value, (*path, name))


def _matched(wrapper: str, tensors: Tensors, own: Tensors) -> _StateDict:
    """Take off the prefix behind which most of the model's names stand."""
    tensors = {_INNER_WRAPPERS.sub("", name): tensor for name, tensor in tensors.items()}
    prefixes: Counter[str] = Counter()
    for name in tensors:
        starts = (0, *(match.end() for match in re.finditer(r"\.", name)))
        prefixes.update(name[:start] for start in starts if name[start:] in own)
    prefix = prefixes.most_common(1)[0][0] if prefixes else ""
    stripped = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return _StateDict(
        wrapper,
        prefix,
        stripped,
        tuple(name for name in tensors if not name.startswith(prefix)),
        sum(_has(name, stripped, tensor) for name, tensor in own.items()),
    )


def _has(name: str, tensors: Tensors, wanted: torch.Tensor) -> bool:
    return name in tensors and tensors[name].shape == wanted.shape


def _fits(name: str, tensors: Tensors, wanted: torch.Tensor) -> bool:
    return _has(name, tensors, wanted) or (name.endswith(_COUNTER) and name not in tensors)


def _log(best: _StateDict, origin: str, with_head: bool) -> None:
    removed = [f"wrapper {best.wrapper!r}"] if best.wrapper else []
    removed += [f"prefix {best.prefix!r}"] if best.prefix else []
    logger.info(
        "weights %s: %d tensors%s; classifier head %s",
        origin,
        best.fitting,
        f" ({' and '.join(removed)} removed)" if removed else "",
        "loaded" if with_head else "starts at random",
    )
    if best.others:
        logger.info("weights %s: not loaded, without the prefix: %s", origin, _listed(best.others))


def _listed(names: Mapping[str, Any] | list[str] | tuple[str, ...]) -> str:
    shown = list(names)[:_SHOWN]
    return f"{', '.join(shown)}{', …' if len(names) > len(shown) else ''} ({len(names)} tensors)"
