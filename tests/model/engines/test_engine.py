"""What each engine on CPUs guarantees."""

from collections import deque

import numpy as np
import pytest
import torch

from galaxy_batch.decision_tree import Question, known_questions
from galaxy_batch.model.engines.choose import make_engine
from galaxy_batch.model.engines.engine import EngineName, PendingOutput
from tests.support.engines import CPU_ENGINES, close, computed, expected, model_of, pixels_of
from train.evaluate.embedding import measure_embedding
from train.evaluate.familiarity import measure_familiarity

QUESTIONS = known_questions(["smooth_or_featured", "something_odd"])


@pytest.mark.parametrize(("views", "stability_views", "questions"), [(1, 1, QUESTIONS), (1, 2, ()), (4, 1, QUESTIONS)])
@pytest.mark.parametrize("name", CPU_ENGINES)
def test_every_engine_gives_the_output_of_the_model(
    name: EngineName, views: int, stability_views: int, questions: tuple[Question, ...]
) -> None:
    model, compared = model_of(views=views, questions=questions), max(views, stability_views)
    model.familiarity = measure_familiarity(model, pixels_of(40), torch.device("cpu"), 0)
    if questions:
        model.embedding = measure_embedding(model, pixels_of(40), torch.device("cpu"), 0)
    answers, size = (5, 4) if questions else (0, 0)
    engine = make_engine(name, model, "fp32", batch_size=4, threads=2)
    for count in (4, 1, 3):  # the last batch of a chunk is smaller
        pixels = pixels_of(count)
        output = computed(engine, pixels, compared, views)
        assert output.map(np.shape) == ((count, 2), (count,), (count,), (count, answers), (count, size))
        assert {array.dtype for array in output} == {np.dtype(np.float32)}
        assert close(output, expected(model, pixels, stability_views), rtol=1e-3, atol=1e-4)
        assert not np.isnan(output.class_logits).any()
        assert not np.isnan(output.unfamiliarity).any()
        assert np.isnan(output.instability).any() == (compared == 1)


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_a_model_without_statistics_and_views_gives_only_logits(name: EngineName) -> None:
    model, pixels = model_of(), pixels_of(2)
    output = computed(make_engine(name, model, "fp32", batch_size=2, threads=1), pixels)
    assert close(output, expected(model, pixels), atol=1e-4)
    assert np.isnan(output.unfamiliarity).all()
    assert np.isnan(output.instability).all()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", CPU_ENGINES)
def test_the_output_for_a_cutout_does_not_depend_on_the_others_of_its_batch(name: EngineName, threads: int) -> None:
    pixels, model = pixels_of(8, 96), model_of("efficientnet_b0", 96)
    model.familiarity = measure_familiarity(model, pixels, torch.device("cpu"), 0)
    engine = make_engine(name, model, "fp32", batch_size=8, threads=threads)
    together = computed(engine, pixels)
    for few in ([0], [5], [7, 2], [6, 1, 0, 4, 3]):
        alone = computed(engine, pixels[few])
        for array, whole in zip(alone, together, strict=True):
            assert np.array_equal(array, whole[few], equal_nan=True), few
    torch.set_num_threads(1)


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_each_pending_output_belongs_to_its_batch(name: EngineName) -> None:
    model = model_of()
    engine = make_engine(name, model, "fp32", batch_size=2, threads=2)
    open_batches: deque[tuple[torch.Tensor, PendingOutput]] = deque()

    def collect(batch: torch.Tensor, pending: PendingOutput) -> None:
        assert np.allclose(pending.result().class_logits, expected(model, batch).class_logits, atol=1e-4)

    for batch in pixels_of(16).split(2):
        if len(open_batches) > engine.in_flight:
            collect(*open_batches.popleft())
        open_batches.append((batch, engine.compute(engine.load(list(batch.numpy())), 0)))
    for batch, pending in reversed(open_batches):
        collect(batch, pending)


@pytest.mark.parametrize("name", CPU_ENGINES)
def test_bf16_logits_are_near_fp32(name: EngineName) -> None:
    model, pixels = model_of(), pixels_of(4)
    rounded = computed(make_engine(name, model, "bf16", batch_size=4, threads=1), pixels).class_logits
    exact = expected(model, pixels).class_logits
    assert np.abs(rounded - exact).max() < 0.1 * np.abs(exact).max()
