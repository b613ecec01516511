import numpy as np
import pytest

from galaxy_batch.decision_tree import known_questions
from galaxy_batch.model.engines.choose import make_engine
from galaxy_batch.model.engines.engine import EngineName
from galaxy_batch.model.forward_passes import ForwardPasses
from galaxy_batch.model.network import MorphologyModel
from galaxy_batch.model.output import ModelOutput
from galaxy_batch.model.views import combined, margin, view_numbers
from tests.support.engines import CPU_ENGINES, close, model_of, pixels_of

COUNT = 23


def model_that_looks_again(share: float) -> MorphologyModel:
    """A model of four views that is unsure of a share of the pixels."""
    model = model_of(views=4, questions=known_questions(["smooth_or_featured", "something_odd"]))
    margins = np.sort(margin(model(pixels_of(COUNT)).class_logits.detach().numpy()))
    unsure = round(share * COUNT)
    limit = float(np.mean([0, *margins, 2 * margins[-1]][unsure : unsure + 2]))  # between two of them
    return model_of(views=4, questions=model.spec.questions, further_views_below=limit)


def passes_of(
    name: EngineName, model: MorphologyModel, batch_size: int, sizes: list[int], reported: list[int] | None = None
) -> ModelOutput[np.ndarray]:
    """The output of chunks of these sizes, together."""
    engine = make_engine(name, model, "fp32", batch_size, threads=2)
    views, start, outputs = view_numbers(model.spec.views), 0, []
    for size in sizes:
        report = None if reported is None else reported.append
        passes = ForwardPasses(engine, model.spec, views, size, report)
        cutouts = list(pixels_of(COUNT).numpy()[start : start + size])
        for first in range(0, size, batch_size):
            rows = list(range(first, min(size, first + batch_size)))
            passes.add(rows, [cutouts[row] for row in rows])
        passes.finish()
        outputs.append(combined(passes.outputs, model.spec.views))
        start += size
    return ModelOutput.join(outputs, np.concatenate)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("name", CPU_ENGINES)
def test_only_unsure_cutouts_get_further_views(name: EngineName, share: float) -> None:
    model, reported = model_that_looks_again(share), list[int]()
    output = passes_of(name, model, 4, [COUNT], reported)
    assert np.isfinite(output.instability).sum() == round(share * COUNT)
    assert sum(reported) == COUNT
    assert close(output, model.predict(pixels_of(COUNT)), atol=1e-4)


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_a_row_does_not_depend_on_its_chunk(name: EngineName) -> None:
    model = model_that_looks_again(0.4)
    whole, divided = passes_of(name, model, 4, [COUNT]), passes_of(name, model, 4, [1, 9, 13])
    for values, others in zip(whole, divided, strict=True):
        assert np.array_equal(values, others, equal_nan=True)


def test_without_a_limit_every_view_is_computed() -> None:
    output = passes_of("torch", model_of(views=2), 8, [COUNT])
    assert np.isfinite(output.instability).all()
    assert output.concentrations.shape == output.embedding.shape == (COUNT, 0)
