import numpy as np
import pytest

from galaxy_batch.model.engines.choose import make_engine
from galaxy_batch.model.engines.engine import EngineName
from galaxy_batch.model.network import MorphologyModel
from galaxy_batch.model.output import ModelOutput
from tests.support.engines import CPU_ENGINES, close, model_of, model_that_looks_again, passes_of, pixels_of

COUNT = 23


def chunks_of(name: EngineName, model: MorphologyModel, sizes: list[int]) -> ModelOutput[np.ndarray]:
    """The output of chunks of these sizes, together."""
    engine = make_engine(name, model, "fp32", 4, threads=2)
    outputs = [passes_of(engine, model.spec, pixels) for pixels in pixels_of(COUNT).split(sizes)]
    return ModelOutput.join(outputs, np.concatenate)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("name", CPU_ENGINES)
def test_only_unsure_cutouts_get_further_views(name: EngineName, share: float) -> None:
    model, reported = model_that_looks_again(share, COUNT), list[int]()
    engine = make_engine(name, model, "fp32", 4, threads=2)
    output = passes_of(engine, model.spec, pixels_of(COUNT), reported.append)
    assert np.isfinite(output.instability).sum() == round(share * COUNT)
    assert sum(reported) == COUNT
    assert close(output, model.predict(pixels_of(COUNT)), atol=1e-4)


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_a_row_does_not_depend_on_its_chunk(name: EngineName) -> None:
    model = model_that_looks_again(0.4, COUNT)
    whole, divided = chunks_of(name, model, [COUNT]), chunks_of(name, model, [1, 9, 13])
    for values, others in zip(whole, divided, strict=True):
        assert np.array_equal(values, others, equal_nan=True)


def test_without_a_limit_every_view_is_computed() -> None:
    output = chunks_of("torch", model_of(views=2), [COUNT])
    assert np.isfinite(output.instability).all()
    assert output.concentrations.shape == output.embedding.shape == (COUNT, 0)
