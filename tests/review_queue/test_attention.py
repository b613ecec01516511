"""Attention maps of a queue are those of its checkpoint, of the pictures in its folder."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from galaxy_batch.cutouts.decode import decode
from galaxy_batch.cutouts.resize import resize
from galaxy_batch.errors import InputError
from galaxy_batch.model.checkpoint import Checkpoint
from galaxy_batch.model.grad_cam import fine_grad_cam
from galaxy_batch.model.network import build_model
from galaxy_batch.model.saved_model import load_checkpoint, save_checkpoint
from galaxy_batch.model.spec import RANDOM, ModelSpec
from galaxy_batch.review_queue import attention
from galaxy_batch.review_queue.attention import attention_maps, catalog_checkpoint
from tests.support.jobs import CallJob
from tests.support.models import SavedModel, save_random_model
from tests.support.queues import publish_with_cutouts
from tests.support.review_pages import review_queue
from tests.support.skies import sky_rows


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> SavedModel:
    return save_random_model(tmp_path_factory.mktemp("models") / "model.safetensors", seed=3)


def manifest_of(saved: SavedModel) -> Any:
    return SimpleNamespace(model_id=saved.checkpoint.checkpoint_id, config={"classify": {}})


def test_maps_are_those_of_the_pictures(saved: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_BATCH", 4)
    queue = review_queue(tmp_path / "first", 7)
    (tmp_path / "first" / "pictures" / "000" / "00005.jpg").unlink()
    (tmp_path / "first" / "pictures" / "000" / "00006.jpg").write_bytes(b"no picture")
    made = attention_maps(queue, manifest_of(saved), catalog_checkpoint(manifest_of(saved), saved.uri))
    assert made is not None
    assert sorted(made.maps) == [1, 2, 4, 7]  # 3 has none, 5 and 6 are damaged
    spec = saved.checkpoint.spec
    assert (made.cells, made.crop_fraction) == (spec.size_px // 8, spec.crop_fraction)
    content = (tmp_path / "first" / "pictures" / "000" / "00007.jpg").read_bytes()
    pixels = torch.from_numpy(resize(decode(content, 10**6), spec.size_px, spec.crop_fraction))[None]
    expected = fine_grad_cam(load_checkpoint(saved.uri)[1], pixels, np.array([0]))
    assert expected is not None
    values = np.frombuffer(made.maps[7], np.uint8).reshape(made.cells, made.cells)
    assert values.max() == 255
    np.testing.assert_allclose(values / 255, expected[0].sqrt().numpy(), atol=0.02)


def test_the_checkpoint_is_that_of_the_catalog(saved: SavedModel) -> None:
    manifest = manifest_of(saved)
    manifest.config["checkpoint_uri"] = saved.uri
    assert catalog_checkpoint(manifest, None).checkpoint == saved.checkpoint
    manifest.model_id = "0123456789abcdef"
    with pytest.raises(InputError, match=r"checkpoint_uri = .*the catalog was made with 0123456789abcdef"):
        catalog_checkpoint(manifest, saved.uri)


def test_a_network_without_a_feature_map_has_none(tmp_path: Path) -> None:
    spec = ModelSpec("test_vit", ("smooth", "featured"), 160, 1.0, (0.5,) * 3, (0.5,) * 3)
    about = Checkpoint(spec, temperature=1.0, min_confidence=0.6, label_rule={}, accuracy=0.5, ece=0.1)
    uri = str(tmp_path / "vit.safetensors")
    saved = SavedModel(uri, save_checkpoint(uri, about, build_model(spec, RANDOM)))
    manifest = manifest_of(saved)
    assert attention_maps(review_queue(tmp_path / "q", 1), manifest, catalog_checkpoint(manifest, uri)) is None


def test_the_page_of_the_job_has_maps_of_the_catalogs_checkpoint(
    saved: SavedModel, tmp_path: Path, call_job: CallJob
) -> None:
    catalog = publish_with_cutouts(tmp_path, sky_rows(30, seed=8))
    command = ("review_queue", str(catalog), "--name")
    refused = call_job(*command, "first", "--uniform", "5", "--attention", "--checkpoint", saved.uri)
    assert (refused.code, "checkpoint_uri = " in refused.log) == (2, True)
    assert not (catalog.parent / "review").exists()
    file = catalog / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_id": saved.checkpoint.checkpoint_id}))
    assert call_job(*command, "first", "--uniform", "5").code == 0
    page = catalog.parent / "review" / "first" / "index.html"
    assert '"attention": null' in page.read_text()
    assert call_job(*command, "first", "--attention", "--checkpoint", saved.uri).code == 0  # of the queue that is there
    content = json.loads(page.read_text().partition('id="queue">')[2].partition("</script>")[0])
    assert content["attention"]["cells"] == saved.checkpoint.spec.size_px // 8
    assert all(content["attention"]["maps"])
    assert call_job(*command, "first", "--uniform", "5").code == 0
    assert '"attention": {' in page.read_text()  # nothing to do: the page stays
