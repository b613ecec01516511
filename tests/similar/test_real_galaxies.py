"""Held-out galaxies that the checkpoint that ships finds alike share their morphology."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from galaxy_batch.config import ClassifyConfig
from galaxy_batch.cutouts.fetch import fetch_cutouts
from galaxy_batch.embeddings import unpacked_embeddings
from galaxy_batch.model.checkpoint import read_checkpoint
from galaxy_batch.model.classifier import Classifier
from galaxy_batch.rows import EMBEDDING
from galaxy_batch.settings import parse_config
from train.config import SplitConfig
from train.data.splits import split_galaxies

BUILTIN = "builtin:gz2-smooth-featured"
_OTHERS = 600


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_nearest_of_held_out_galaxies_share_their_label(sky: Path) -> None:
    """Edge-on disks three times as often as by chance, featured face-on ones one and a half times."""
    checkpoint = read_checkpoint(BUILTIN).checkpoint
    if not checkpoint.spec.embedding_size:
        pytest.skip("the checkpoint that ships has no embedding")
    votes = pd.read_csv(sky / "gz2" / "training_solutions.csv")
    split = parse_config(SplitConfig, checkpoint.training["split"])
    held_out = split_galaxies(pa.chunked_array([votes["GalaxyID"].to_numpy()]), split).test
    others = np.random.default_rng(0).permutation(np.setdiff1d(np.arange(len(votes)), held_out))[:_OTHERS]
    votes = votes.iloc[np.concatenate([held_out, others])]
    uris = [str(sky / "gz2" / "images" / f"{object_id}.jpg") for object_id in votes["GalaxyID"]]
    rows = fetch_cutouts(pa.table({"object_id": votes["GalaxyID"], "_image_uri": uris}), 10**7)
    config = ClassifyConfig(embedding=checkpoint.spec.embedding_size)
    values, missing = unpacked_embeddings(Classifier(BUILTIN, config, 16, "torch", "fp32", 2)(rows)[EMBEDDING])
    assert not missing.any()
    units = values / np.linalg.norm(values.astype(np.float64), axis=1, keepdims=True)
    nearest = np.argsort(-(units @ units.T) + 9 * np.eye(len(units)), axis=1)[:, :10]
    asked = np.arange(len(votes)) < len(held_out)
    for column, times in (("Class2.1", 3), ("Class2.2", 1.5)):
        have = votes[column].to_numpy() >= 0.5
        assert (have & asked).sum() >= 10
        assert have[nearest[have & asked]].mean() > times * have.mean(), column
