import numpy as np
import torch

from galaxy_batch.model.engines.torch_cpu import TorchEngine
from tests.support.engines import computed, expected, model_of, pixels_of


def test_the_logits_are_those_of_the_model_to_the_last_bit() -> None:
    model, pixels = model_of(), pixels_of(4)
    engine = TorchEngine(model, "fp32", batch_size=4, threads=1)
    assert torch.get_num_threads() == 1
    assert np.array_equal(computed(engine, pixels).class_logits, expected(model, pixels).class_logits)
