"""The checkpoints that ship with the package, on real galaxies."""

from pathlib import Path

import numpy as np
import pytest
import torch

from galaxy_batch.checkpoints import read_model_file
from galaxy_batch.errors import InputError
from galaxy_batch.model.saved_model import load_checkpoint
from galaxy_batch.settings import parse_config
from train.config import TrainConfig
from train.data.galaxies import load_part, read_galaxies
from train.data.labels import AMBIGUOUS
from train.data.splits import split_galaxies
from train.fit.fit import predict

URI = "builtin:gz2-smooth-featured"


def test_the_checkpoint_is_small_and_complete() -> None:
    assert len(read_model_file(URI, "checkpoint_uri")) <= 8_000_000
    checkpoint, model = load_checkpoint(URI)
    assert checkpoint.spec.classes == ("smooth", "featured")
    assert checkpoint.max_unfamiliarity is not None
    assert checkpoint.max_instability is not None
    assert model.familiarity is not None
    assert checkpoint.spec.embedding_size == 64
    assert [question.name for question in checkpoint.spec.questions] == [
        "smooth_or_featured", "disk_edge_on", "something_odd", "how_rounded", "odd_feature",
    ]  # fmt: skip


def test_an_unknown_name_is_refused_with_those_that_exist() -> None:
    with pytest.raises(InputError, match=f"known: .*{URI}"):
        load_checkpoint("builtin:resnet")


def test_the_test_galaxies_of_its_training_have_the_accuracy_that_it_records(sky: Path) -> None:
    checkpoint, model = load_checkpoint(URI)
    split, network = dict(checkpoint.training["split"]), checkpoint.spec
    values = {
        "output_uri": "unused",
        "galaxies": {
            "uri": str(sky / "gz2" / "training_solutions.csv"),
            "id_column": "GalaxyID",
            "uri_template": "images/{GalaxyID}.jpg",
        },
        "split": split,
        "network": {"size_px": network.size_px, "crop_fraction": network.crop_fraction},
    }
    config = parse_config(TrainConfig, values)
    galaxies, labels = read_galaxies(config)
    part = load_part(config, galaxies, labels, split_galaxies(galaxies["object_id"], config.split).test, learns=False)
    output = predict(model, part.examples.pixels, torch.device("cpu"))
    label = labels.label[part.rows]
    clear = label != AMBIGUOUS
    accuracy = np.mean(output.class_logits.argmax(axis=1)[clear] == label[clear])
    assert clear.sum() > 100
    assert abs(accuracy - checkpoint.accuracy) < 1.5 / clear.sum(), "one galaxy may change its class by rounding"
    computed_again = np.isfinite(output.instability).mean()
    assert 0.05 < computed_again < 0.3, "only the least sure cutouts get further views"
