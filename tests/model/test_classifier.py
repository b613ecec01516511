import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from PIL import Image

from galaxy_batch.config import ClassifyConfig, ManifestConfig
from galaxy_batch.cutouts.fetch import fetch_cutouts
from galaxy_batch.cutouts.resize import Pixels, resize
from galaxy_batch.embeddings import packed_embeddings, unpacked_embeddings
from galaxy_batch.inputs.manifest import read_objects
from galaxy_batch.model.classifier import Classifier
from galaxy_batch.model.engines.engine import Engine, PendingOutput
from galaxy_batch.model.saved_model import load_checkpoint, save_checkpoint
from galaxy_batch.rows import EMBEDDING
from galaxy_batch.synthetic.rendering import render
from galaxy_batch.synthetic.survey import DEFECTS, SurveyFiles
from tests.support.engines import computed
from tests.support.models import SavedModel, with_embedding
from train.data.cutouts import load_cutouts
from train.evaluate.calibration import class_probabilities
from train.evaluate.familiarity import measure_familiarity
from train.fit.fit import predict_logits


def classifier(model: SavedModel, batch_size: int = 4, threads: int = 2) -> Classifier:
    return Classifier(model.uri, ClassifyConfig(), batch_size, "torch", "fp32", threads)


def fetched(contents: list[bytes | None]) -> pa.Table:
    return fetch_cutouts(
        pa.table({"object_id": range(len(contents)), "_image_bytes": pa.array(contents, pa.large_binary())}), 10**7
    )


def test_rows_with_and_without_an_image(saved_model: SavedModel) -> None:
    good = [render(i, seed=1) for i in range(6)]
    rows = classifier(saved_model)(fetched([good[0], b"", *good[1:4], None, DEFECTS["truncated"](good[4]), good[5]]))
    assert rows["object_id"].to_pylist() == list(range(8))
    assert rows["status"].to_pylist() == ["ok", "unreadable", "ok", "ok", "ok", "missing", "unreadable", "ok"]
    usable = np.array([s == "ok" for s in rows["status"].to_pylist()])
    for name in ("predicted_class", "confidence", "p_smooth", "p_featured", "_blank_fraction"):
        assert rows[name].is_valid().to_pylist() == usable.tolist()
    assert rows["error"].is_null().to_pylist() == usable.tolist()
    p = np.stack([rows["p_smooth"].to_numpy(), rows["p_featured"].to_numpy()], axis=1)[usable]
    assert np.allclose(p.sum(axis=1), 1, atol=1e-6)
    assert [["smooth", "featured"][i] for i in p.argmax(axis=1)] == rows["predicted_class"].drop_null().to_pylist()
    assert np.array_equal(p.max(axis=1), rows["confidence"].to_numpy()[usable])
    assert "_image_bytes" not in rows.column_names


def test_embeddings_are_the_first_components_and_reused_ones_stay(saved_model: SavedModel, tmp_path: Path) -> None:
    model = with_embedding(saved_model, tmp_path / "model.safetensors", 6)
    rows = fetched([*(render(i, seed=1) for i in range(5)), None])

    def embeddings(size: int, rows: pa.Table = rows) -> tuple[np.ndarray, list[bool]]:
        config = ClassifyConfig(embedding=size)
        values, missing = unpacked_embeddings(Classifier(model.uri, config, 4, "torch", "fp32", 2)(rows)[EMBEDDING])
        return values, missing.tolist()

    assert EMBEDDING not in Classifier(model.uri, ClassifyConfig(), 4, "torch", "fp32", 2)(rows).column_names
    values, missing = embeddings(6)
    assert missing == [False] * 5 + [True]
    pixels = torch.stack([torch.from_numpy(decoded(content)) for content in rows["_image_bytes"].to_pylist()[:5]])
    _, network = load_checkpoint(model.uri)
    np.testing.assert_allclose(values[:5].astype(np.float32), network.predict(pixels).embedding, rtol=2e-3, atol=1e-4)
    assert np.array_equal(embeddings(4)[0][:5], values[:5, :4])
    mask = np.arange(6) != 2
    known = packed_embeddings(np.full((6, 6), 7.0), mask)
    again = rows.append_column(EMBEDDING, known)
    for name in ("p_smooth", "p_featured"):
        again = again.append_column(name, pa.array([0.5] * 6, pa.float32(), mask=mask))
    mixed, _ = embeddings(6, again)
    assert mixed[2].tolist() == [7.0] * 6
    assert np.array_equal(np.delete(mixed, 2, 0)[:4], np.delete(values, 2, 0)[:4])


def decoded(content: bytes) -> Pixels:
    """Pixels of the network's input."""
    with Image.open(io.BytesIO(content)) as image:
        return resize(np.asarray(image.convert("RGB")).transpose(2, 0, 1), 64, 0.75)


def test_the_batch_size_does_not_change_probabilities(saved_model: SavedModel) -> None:
    rows = fetched([render(i, seed=2) for i in range(7)])
    one, many = classifier(saved_model, 1, 1)(rows), classifier(saved_model, 64)(rows)
    assert np.allclose(one["p_smooth"].to_numpy(), many["p_smooth"].to_numpy(), atol=1e-5)


def test_reused_rows_are_not_computed(saved_model: SavedModel) -> None:
    good = [render(i, seed=2) for i in range(5)]
    alone = classifier(saved_model, 1)(fetched(good))
    rows = fetched(good)
    same = pa.array([False, True, False, True, True])
    reused = {"p_smooth": [0.25, 0.75, 0.5], "p_featured": [0.75, 0.25, 0.5]}
    for name, values in reused.items():
        column = pa.array([None, values[0], None, *values[1:]], pa.float32())
        rows = rows.append_column(name, column)
    place = rows.column_names.index("_image_bytes")
    rows = rows.set_column(place, "_image_bytes", pc.if_else(same, None, rows["_image_bytes"]))
    classified = classifier(saved_model, 1)(rows)
    assert sorted(classified.column_names) == sorted(alone.column_names)
    assert classified["status"].to_pylist() == ["ok"] * 5
    assert classified.filter(same)["p_smooth"].to_pylist() == reused["p_smooth"]
    assert classified.filter(same)["_blank_fraction"].null_count == 3
    assert classified.filter(same)["predicted_class"].to_pylist() == ["featured", "smooth", "smooth"]
    assert classified.filter(same)["confidence"].to_pylist() == [0.75, 0.75, 0.5]
    others = pc.invert(same)
    for name in alone.column_names:
        assert classified.filter(others)[name].equals(alone.filter(others)[name]), name


def test_a_chunk_without_any_image(saved_model: SavedModel) -> None:
    rows = classifier(saved_model)(fetched([None, b"text"]))
    assert rows["predicted_class"].null_count == 2
    assert rows["predicted_class"].type == pa.dictionary(pa.int32(), pa.string())


def test_unfamiliarity_and_instability_of_galaxies_and_noise(saved_model: SavedModel, tmp_path: Path) -> None:
    checkpoint, model = load_checkpoint(saved_model.uri)
    contents = pa.array([render(i, seed=4) for i in range(60)], pa.large_binary())
    galaxies = load_cutouts(pa.table({"_image_bytes": contents}), 64, 0.75, threads=1).pixels
    model.familiarity = measure_familiarity(model, galaxies, torch.device("cpu"), 0)
    uri = str(tmp_path / "model.safetensors")
    save_checkpoint(uri, checkpoint, model)
    actor = Classifier(uri, ClassifyConfig(stability_views=4), 4, "torch", "fp32", 1)
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(noise, "PNG")
    rows = actor(fetched([render(99, seed=4), b"", noise.getvalue(), None]))
    for name in ("unfamiliarity", "instability"):
        assert rows[name].type == pa.float32()
        assert rows[name].is_valid().to_pylist() == [True, False, True, False]
    ordinary, strange = rows["unfamiliarity"].drop_null().to_pylist()
    assert 0 < 3 * ordinary < strange
    plain = classifier(saved_model)(fetched([render(99, seed=4)]))
    assert plain["p_smooth"][0].as_py() == pytest.approx(rows["p_smooth"][0].as_py(), abs=1e-6)
    assert plain["unfamiliarity"].null_count == plain["instability"].null_count == 1


class ResizingEngine:
    """Resizes as the GPU engine does, on a CPU: cutouts have their own size, one side in each batch."""

    in_flight, resizes = 2, True

    def __init__(self, inner: Engine, size_px: int) -> None:
        self.inner, self.size_px, self.batch_size = inner, size_px, inner.batch_size
        self.sides: list[set[int]] = []

    def load(self, cutouts: list[Pixels]) -> Any:
        self.sides.append({cutout.shape[-1] for cutout in cutouts})
        return self.inner.load([resize(cutout, self.size_px, 1.0) for cutout in cutouts])

    def compute(self, loaded: Any, view: int) -> PendingOutput:
        return self.inner.compute(loaded, view)


def test_an_engine_that_resizes_gets_cutouts_of_one_side(saved_model: SavedModel) -> None:
    small = io.BytesIO()
    Image.open(io.BytesIO(render(7, seed=1))).resize((101, 120)).save(small, "PNG")
    rows = fetched([*[render(i, seed=1) for i in range(6)], small.getvalue(), b"", render(8, seed=1)])
    actor = classifier(saved_model)
    expected = actor(rows)
    engine = ResizingEngine(actor.engine, saved_model.checkpoint.spec.size_px)
    actor.engine = engine
    resized = actor(rows)
    assert engine.sides[0] == {round(0.75 * 424)}
    assert all(len(sides) == 1 for sides in engine.sides)
    assert {76} in engine.sides
    assert resized.drop_columns(["confidence", "p_smooth", "p_featured"]).equals(
        expected.drop_columns(["confidence", "p_smooth", "p_featured"])
    )
    assert np.allclose(
        resized["p_smooth"].drop_null().to_numpy(), expected["p_smooth"].drop_null().to_numpy(), atol=1e-6
    )


def test_training_and_inference_give_equal_logits(saved_model: SavedModel, survey: SurveyFiles) -> None:
    config = ManifestConfig(uri=str(survey.manifest), uri_template="images/{object_id}.jpg")
    check_training_equals_inference(saved_model, config, slice(0, 28))


def test_training_and_inference_give_equal_logits_for_real_galaxies(saved_model: SavedModel, sky: Path) -> None:
    config = ManifestConfig(
        uri=str(sky / "sdss_dr7" / "objects.csv"), id_column="dr7objid", uri_template="images/{dr7objid}.jpeg"
    )
    check_training_equals_inference(saved_model, config, slice(100, 164))


def check_training_equals_inference(saved_model: SavedModel, config: ManifestConfig, part: slice) -> None:
    """Compare the logits of the training path and of the catalog's actor to the last bit."""
    objects = read_objects(config).slice(part.start, part.stop - part.start)
    checkpoint, model = load_checkpoint(saved_model.uri)
    cutouts = load_cutouts(objects, checkpoint.spec.size_px, checkpoint.spec.crop_fraction, threads=2)
    logits = predict_logits(model, cutouts.pixels, torch.device("cpu")).double().numpy()
    actor = classifier(saved_model, batch_size=64)
    rows = actor(fetch_cutouts(objects, 10**7))
    assert len(cutouts.rows) == len(objects)
    output = computed(actor.engine, cutouts.pixels)
    assert np.array_equal(output.class_logits, logits.astype(np.float32))
    published = np.stack([rows["p_smooth"].to_numpy(), rows["p_featured"].to_numpy()], axis=1)
    assert np.allclose(published, class_probabilities(logits, checkpoint.temperature), atol=1e-6)
