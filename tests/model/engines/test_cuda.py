import pytest
import torch

from galaxy_batch.model.engines.cuda import CudaEngine
from tests.support.engines import close, computed, expected, model_of, pixels_of
from train.evaluate.familiarity import measure_familiarity


@pytest.mark.gpu
@pytest.mark.parametrize("count", [4, 1])
def test_the_gpu_gives_the_output_of_the_model(count: int) -> None:
    model, pixels = model_of(views=2), pixels_of(count)
    model.familiarity = measure_familiarity(model, pixels_of(40), torch.device("cpu"), 0)
    wanted = expected(model, pixels)
    assert close(computed(CudaEngine(model, "fp32", batch_size=4), pixels, 2, 2), wanted, atol=1e-3)


@torch.inference_mode()
def test_the_forward_pass_compiles_to_one_graph_with_named_outputs() -> None:
    """As far as that shows without a GPU."""
    model, pixels = model_of(), pixels_of(4)
    model.familiarity = measure_familiarity(model, pixels_of(40), torch.device("cpu"), 0)
    output = torch.compile(model, dynamic=False, fullgraph=True, backend="aot_eager")(pixels)
    for values, wanted in zip(output, model(pixels), strict=True):
        assert torch.allclose(values, wanted, atol=1e-4)
