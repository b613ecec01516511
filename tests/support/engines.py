"""A small model, random pixels, and the output that every engine must give for them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from galaxy_batch.decision_tree import known_questions
from galaxy_batch.model.engines.engine import Engine, EngineName
from galaxy_batch.model.forward_passes import ForwardPasses
from galaxy_batch.model.network import MorphologyModel, build_model
from galaxy_batch.model.output import ModelOutput, ViewOutput
from galaxy_batch.model.spec import RANDOM, ModelSpec
from galaxy_batch.model.views import combined, margin, view_numbers

__all__ = [
    "CPU_ENGINES",
    "close",
    "computed",
    "expected",
    "model_of",
    "model_that_looks_again",
    "near",
    "passes_of",
    "pixels_of",
]

CPU_ENGINES: tuple[EngineName, ...] = ("torch", "openvino")

Output = ModelOutput[npt.NDArray[np.float32]]


def model_of(architecture: str = "test_efficientnet", size: int = 64, views: int = 1, **spec: Any) -> MorphologyModel:
    """A model with two classes, whose heads are not near zero."""
    torch.manual_seed(5)
    described = ModelSpec(architecture, ("a", "b"), size, 1.0, (0.5,) * 3, (0.3,) * 3, views, **spec)
    model = build_model(described, RANDOM)
    torch.nn.init.normal_(model.backbone.get_classifier().weight)
    if model.questions is not None:
        torch.nn.init.normal_(model.questions.weight)
    return model


def pixels_of(count: int, size: int = 64) -> torch.Tensor:
    """Random uint8 cutouts ``(count, 3, size, size)``, the same at every call."""
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def computed(engine: Engine, pixels: torch.Tensor, views: int = 1, averaged: int = 1) -> Output:
    """The engine's output for one batch."""
    loaded = engine.load(list(pixels.numpy()))
    outputs = [engine.compute(loaded, number).result() for number in view_numbers(views)]
    return combined(ViewOutput(*map(np.stack, zip(*outputs, strict=True))), averaged)


def expected(model: MorphologyModel, pixels: torch.Tensor, stability_views: int = 1) -> Output:
    """The model's own output."""
    return model.predict(pixels, stability_views)


def close(output: Output, other: Output, **tolerance: float) -> bool:
    """Whether two outputs are equal within `numpy.allclose`'s tolerance, nan in the same places."""
    return all(np.allclose(a, b, equal_nan=True, **tolerance) for a, b in zip(output, other, strict=True))


def near(output: Output, other: Output, share: float) -> bool:
    """Whether every value differs by at most this share of its field's largest value; nan in the same places."""
    return all(
        np.allclose(a, b, rtol=0, atol=share * float(np.nan_to_num(np.abs(b)).max(initial=0)), equal_nan=True)
        for a, b in zip(output, other, strict=True)
    )


def model_that_looks_again(share: float, count: int) -> MorphologyModel:
    """A model of four views that is unsure of a share of the pixels."""
    model = model_of(views=4, questions=known_questions(["smooth_or_featured", "something_odd"]))
    margins = np.sort(margin(model(pixels_of(count)).class_logits.detach().numpy()))
    unsure = round(share * count)
    limit = float(np.mean([0, *margins, 2 * margins[-1]][unsure : unsure + 2]))  # between two of them
    return model_of(views=4, questions=model.spec.questions, further_views_below=limit)


def passes_of(
    engine: Engine, spec: ModelSpec, pixels: torch.Tensor, report: Callable[[int], None] | None = None
) -> Output:
    """The output of a chunk of these pixels, from `ForwardPasses`."""
    passes = ForwardPasses(engine, spec, view_numbers(spec.views), len(pixels), report)
    cutouts = list(pixels.numpy())
    for first in range(0, len(cutouts), engine.batch_size):
        rows = list(range(first, min(len(cutouts), first + engine.batch_size)))
        passes.add(rows, [cutouts[row] for row in rows])
    passes.finish()
    return combined(passes.outputs, spec.views)
