"""The GPU engine gives what the model gives on the CPU, within a tolerance that depends on the precision."""

import dataclasses

import numpy as np
import pytest
import torch

from galaxy_batch.cutouts.decode import decode
from galaxy_batch.cutouts.resize import resize
from galaxy_batch.decision_tree import Question, known_questions
from galaxy_batch.model.engines.cuda import CudaEngine, _scaled
from galaxy_batch.model.engines.engine import Precision
from galaxy_batch.model.network import MorphologyModel
from galaxy_batch.synthetic.rendering import render
from tests.support.engines import computed, expected, model_of, model_that_looks_again, near, passes_of, pixels_of
from train.evaluate.embedding import measure_embedding
from train.evaluate.familiarity import measure_familiarity

QUESTIONS = known_questions(["smooth_or_featured", "something_odd"])
# Largest difference, as a share of the field's largest value. In fp32 the convolutions of a GPU round their inputs to
# TF32 (10 bits); bf16 has 7 bits. On a CPU the same network differs by up to 0.01 in bf16.
TOLERANCE: dict[Precision, float] = {"fp32": 0.004, "bf16": 0.03}
PRECISIONS = pytest.mark.parametrize("precision", list(TOLERANCE))


def needs_gpu(test):  # type: ignore[no-untyped-def]
    skip = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
    return pytest.mark.gpu(skip(test))


def measured(model: MorphologyModel) -> MorphologyModel:
    """The model with the statistics that training measures."""
    model.familiarity = measure_familiarity(model, pixels_of(40), torch.device("cpu"), 0)
    if model.spec.questions:
        model.embedding = measure_embedding(model, pixels_of(40), torch.device("cpu"), 0)
        model.spec = dataclasses.replace(model.spec, embedding_size=len(model.embedding.components))
    return model


@needs_gpu
@PRECISIONS
@pytest.mark.parametrize(("views", "questions"), [(1, ()), (2, QUESTIONS), (8, QUESTIONS)])
def test_the_gpu_gives_the_output_of_the_model(
    precision: Precision, views: int, questions: tuple[Question, ...]
) -> None:
    model = measured(model_of(views=views, questions=questions))
    wanted = {count: expected(model, pixels_of(count)) for count in (4, 1, 3)}
    engine = CudaEngine(model, precision, batch_size=4)  # moves the model to the GPU
    for count, output in wanted.items():
        assert near(computed(engine, pixels_of(count), views, views), output, TOLERANCE[precision])


@needs_gpu
@PRECISIONS
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_only_unsure_cutouts_get_further_views(precision: Precision, share: float) -> None:
    model, pixels = measured(model_that_looks_again(share, 23)), pixels_of(23)
    wanted = model.predict(pixels)
    output = passes_of(CudaEngine(model, precision, batch_size=4), model.spec, pixels)
    same = np.isnan(output.instability) == np.isnan(wanted.instability)
    assert same.all() if precision == "fp32" else same.mean() > 0.8  # rounding moves margins across the limit
    assert near(output.map(lambda a: a[same]), wanted.map(lambda a: a[same]), TOLERANCE[precision])


@needs_gpu
@PRECISIONS
def test_the_gpu_resizes_cutouts_of_any_size(precision: Precision) -> None:
    model = measured(model_of(views=2, questions=QUESTIONS))
    galaxies = [decode(render(number, seed=1), 10**7) for number in range(4)]
    native = {
        side: [np.ascontiguousarray(galaxy[:, :side, :side]) for galaxy in galaxies] for side in (424, 150, 64, 40)
    }
    small = {side: np.stack([resize(cutout, 64, 1.0) for cutout in cutouts]) for side, cutouts in native.items()}
    wanted = {side: expected(model, torch.from_numpy(cutouts)) for side, cutouts in small.items()}
    engine = CudaEngine(model, precision, batch_size=4)
    for side, cutouts in native.items():
        output = computed(engine, torch.from_numpy(np.stack(cutouts)), 2, 2)
        spread = wanted[side].instability  # near zero here, so that one step in a pixel is a large share of it
        np.testing.assert_allclose(output.instability, spread, rtol=0, atol=TOLERANCE[precision])
        assert near(output._replace(instability=spread), wanted[side], 2 * TOLERANCE[precision]), side


@needs_gpu
def test_each_pending_output_belongs_to_its_batch() -> None:
    model, batches = model_of(), pixels_of(24).split(2)
    wanted = [expected(model, batch).class_logits for batch in batches]
    engine = CudaEngine(model, "fp32", batch_size=2)
    pending = []
    for number, batch in enumerate(batches):
        pending.append(engine.compute(engine.load(list(batch.numpy())), 0))
        if number >= engine.in_flight:
            done = number - engine.in_flight
            np.testing.assert_allclose(
                pending[done].result().class_logits, wanted[done], atol=0.004 * np.abs(wanted).max()
            )


@pytest.mark.parametrize("side", [424, 150, 64, 40])
def test_its_resized_pixels_differ_by_one_step_at_most(side: int) -> None:
    """Computed on the CPU: in float and rounded once, not in whole numbers and rounded after each of two passes."""
    cutout = np.ascontiguousarray(decode(render(3, seed=1), 10**7)[:, :side, :side])
    scaled = _scaled(torch.from_numpy(cutout[None]), 64)[0].numpy().astype(int)
    assert np.abs(scaled - resize(cutout, 64, 1.0)).max() <= 1


@torch.inference_mode()
def test_the_forward_pass_compiles_to_one_graph_with_named_outputs() -> None:
    """As far as that shows without a GPU."""
    model, pixels = measured(model_of(questions=QUESTIONS)), pixels_of(4)
    output = torch.compile(model, dynamic=False, fullgraph=True, backend="aot_eager")(pixels)
    for values, wanted in zip(output, model(pixels), strict=True):
        assert torch.allclose(values, wanted, atol=1e-4)
