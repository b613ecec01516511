"""The model card of a checkpoint."""

import dataclasses
from pathlib import Path

import yaml

from galaxy_batch.checkpoints import model_card_of
from galaxy_batch.model.checkpoint import read_checkpoint
from galaxy_batch.sharing.model_card import model_card
from tests.support.shared_catalogs import ABOUT, CHECKPOINT_METADATA, described

BUILTIN = "builtin:gz2-smooth-featured"


def test_a_card_says_what_the_metadata_say(sky_catalog: Path) -> None:
    about = dataclasses.replace(ABOUT, checkpoint_license="BSD-3-Clause")
    _, entries, text = model_card(described(sky_catalog, about)).decode().split("---\n", 2)
    assert yaml.safe_load(entries)["license"] == "bsd-3-clause"
    assert "efficientnet_b0" in text
    assert "the central 60% of an RGB cutout, scaled to 224 × 224 pixels" in text
    assert "1,347 smooth, 1,833 featured, 833 ambiguous" in text
    assert "On the 144 test galaxies the accuracy is 90.0% (95% interval" in text
    assert "\n\n|" in text, "the table is apart from the text above"
    assert "\n\n\n" not in text
    assert "0.031, much of which is chance with this few galaxies" in text
    assert "ImageNet, from timm's hub" in text
    assert "None" not in text


def test_metadata_of_an_older_checkpoint_are_enough(sky_catalog: Path) -> None:
    known = {name: CHECKPOINT_METADATA[name] for name in ("spec", "min_confidence", "accuracy", "ece")}
    spec = {name: value for name, value in known["spec"].items() if "view" not in name}
    text = model_card(described(sky_catalog, checkpoint={**known, "spec": spec})).decode()
    assert "license" not in yaml.safe_load(text.split("---\n")[1])
    assert "not stated" in text
    assert "On test galaxies the accuracy is 90.0%" in text


def test_a_checkpoint_of_the_package_keeps_its_card(sky_catalog: Path) -> None:
    checkpoint = read_checkpoint(BUILTIN).checkpoint
    shipped = model_card_of(checkpoint.checkpoint_id)
    assert shipped is not None
    assert model_card_of("0123456789abcdef") is None
    card = model_card(described(sky_catalog, checkpoint=dataclasses.asdict(checkpoint), checkpoint_card=shipped))
    text = card.decode()
    assert "# Model card: gz2-smooth-featured" in text
    assert "](../" not in text, "links to files that are not shared"
    assert "train/README.md" in text


def test_a_card_of_this_checkpoint_can_be_made(sky_catalog: Path) -> None:
    checkpoint = dataclasses.asdict(read_checkpoint(BUILTIN).checkpoint)
    text = model_card(described(sky_catalog, checkpoint=checkpoint)).decode()
    assert "tf_efficientnet_lite0" in text
    assert "fewer where the first one is sure" in text
    assert "64 numbers" in text
    assert "| votes | table `kaggle`, question `smooth-or-featured-gz2` |" in text
    assert "timm 1.0.31" in text
