import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from galaxy_batch.cutouts.decode import decode
from galaxy_batch.cutouts.resize import resize
from galaxy_batch.model.familiarity import Familiarity, describe
from galaxy_batch.model.network import MorphologyModel, build_model
from galaxy_batch.model.spec import RANDOM, ModelSpec
from train.evaluate.familiarity import fit_familiarity, measure_familiarity
from train.fit.fit import predict

CPU = torch.device("cpu")
NUMBERS = np.random.default_rng(0)


def model_of(architecture: str, size: int = 64, weights: str = RANDOM) -> MorphologyModel:
    torch.manual_seed(0)
    spec = ModelSpec(architecture, ("smooth", "featured"), size, 0.6, (0.5,) * 3, (0.5,) * 3)
    return build_model(spec, weights)


def test_a_description_is_the_deviation_of_each_channel() -> None:
    stages = [torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4, 4)]
    wanted = [torch.std(stage, (2, 3), correction=0) for stage in stages]
    assert torch.allclose(describe(stages), torch.cat(wanted, 1), atol=1e-5)


def test_the_distance_is_the_mahalanobis_distance_per_dimension() -> None:
    samples = NUMBERS.normal(size=(4000, 6)) @ NUMBERS.normal(size=(6, 6)) + 5
    distances = fit_familiarity(samples)(torch.from_numpy(samples)).numpy()
    scaled = (samples - samples.mean(axis=0)) / samples.std(axis=0)
    inverse = np.linalg.inv(np.cov(scaled.T, bias=True) + 0.1 * np.eye(6))
    assert np.allclose(distances, np.einsum("ni,ij,nj->n", scaled, inverse, scaled) / 6, rtol=1e-3)
    assert 0.5 < distances.mean() < 1


def test_deviations_outside_the_principal_axes_are_far() -> None:
    flat = np.concatenate([NUMBERS.normal(size=(700, 60)), NUMBERS.normal(size=(700, 1)).repeat(40, 1)], axis=1)
    familiarity = fit_familiarity(flat)
    assert familiarity.axes.shape == (100, 64)
    odd = torch.from_numpy(flat[:5]).clone()
    odd[:, -1] += 5  # breaks a correlation that all galaxies share
    assert (familiarity(odd) > 2 * familiarity(torch.from_numpy(flat[:5]))).all()


def test_few_galaxies_and_dead_channels_give_finite_distances() -> None:
    few = NUMBERS.normal(size=(5, 40))
    few[:, 7] = 3.0
    distances = fit_familiarity(few)(torch.from_numpy(np.concatenate([few, 2 * few])))
    assert distances.isfinite().all()
    assert distances[5:].min() > distances[:5].max()


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Familiarity(torch.zeros(3), torch.ones(3), torch.zeros(4, 2), torch.ones(2), torch.ones(1))


@pytest.mark.parametrize("architecture", ["test_efficientnet", "tf_efficientnet_lite0", "test_resnet", "test_vit"])
@torch.inference_mode()
def test_measuring_unfamiliarity_does_not_change_the_logits(architecture: str) -> None:
    model = model_of(architecture, 160 if architecture == "test_vit" else 64)
    size = model.spec.size_px
    pixels = torch.randint(0, 120, (40, 3, size, size), dtype=torch.uint8)
    logits = model(pixels).class_logits.numpy()
    model.familiarity = measure_familiarity(model, pixels, CPU, 0)
    output = model.predict(pixels)
    assert np.allclose(output.class_logits, logits, atol=1e-5)
    assert 0.7 < np.sqrt((output.unfamiliarity**2).mean()) < 1.4
    strange = torch.randint(0, 256, (1, 3, 4, 4), dtype=torch.uint8).repeat_interleave(size // 4, 2)
    strange = strange.repeat_interleave(size // 4, 3)
    assert model.predict(strange).unfamiliarity > output.unfamiliarity.max()


def test_the_same_seed_gives_the_same_statistics() -> None:
    model = model_of("test_efficientnet")
    pixels = torch.randint(0, 255, (30, 3, 64, 64), dtype=torch.uint8)
    first, again, other = (measure_familiarity(model, pixels, CPU, seed) for seed in (1, 1, 2))
    assert first is not None
    assert again is not None
    assert other is not None
    assert torch.equal(first.axes, again.axes)
    assert not torch.equal(first.mean, other.mean)


def test_a_network_without_stages_has_no_statistics() -> None:
    model = model_of("test_efficientnet")
    model.backbone = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(2))
    assert measure_familiarity(model, torch.zeros(4, 3, 64, 64, dtype=torch.uint8), CPU, 0) is None


def real_cutouts(files: list[Path]) -> torch.Tensor:
    return torch.from_numpy(np.stack([resize(decode(file.read_bytes(), 10**7), 160, 0.6) for file in files]))


def error_pages() -> torch.Tensor:
    """Pages of text, dark on light and light on dark; and frames of one colour."""
    pages = []
    words = ("Image not available", "404 Not Found", "No data at this position", "503 Service Unavailable")
    for number in range(24):
        ink, paper = ((255, 255, 255), (0, 0, 0)) if number % 2 else ((0, 0, 0), (235, 235, 235))
        page = Image.new("RGB", (424, 424), paper)
        font = ImageFont.load_default(12 + number)
        ImageDraw.Draw(page).text((90, 150 + 5 * number), words[number % 4], fill=ink, font=font)
        pages.append(np.array(page))
    pages += [np.full((424, 424, 3), level, np.uint8) for level in (0, 8, 64, 128, 255)]
    return torch.from_numpy(np.stack([resize(page.transpose(2, 0, 1), 160, 0.6) for page in pages]))


def auroc(ordinary: np.ndarray, strange: np.ndarray) -> float:
    """Area under the ROC curve: how often a strange cutout is farther than an ordinary one."""
    return float((strange[:, None] > ordinary[None]).mean() + (strange[:, None] == ordinary[None]).mean() / 2)


@pytest.mark.slow
def test_images_without_a_galaxy_are_unfamiliar(sky: Path) -> None:
    """With ImageNet's weights: this project's recipes do not train the first stages."""
    galaxies = sorted((sky / "gz2" / "images").iterdir())
    model = model_of("tf_efficientnet_lite0", 160, str(sky / "weights" / "tf_efficientnet_lite0_imagenet_timm.pth"))
    model.familiarity = measure_familiarity(model, real_cutouts(galaxies[:4000:2]), CPU, 0)

    def distances(pixels: torch.Tensor) -> np.ndarray:
        return predict(model, pixels, CPU).unfamiliarity

    ordinary = distances(real_cutouts(galaxies[1:1000:2]))
    with (sky / "sdss_dr7" / "objects.csv").open() as file:
        objects = list(csv.DictReader(file))
    images = sky / "sdss_dr7" / "images"
    stars = [images / f"{row['dr7objid']}.jpeg" for row in objects if row["gz1_class"] == "star_or_dont_know"]
    others = [images / f"{row['dr7objid']}.jpeg" for row in objects if row["gz1_class"] == "elliptical"][:200]
    assert auroc(ordinary, distances(error_pages())) > 0.99
    assert auroc(ordinary, distances(real_cutouts(stars))) > 0.9  # about a third of the 32 are faint galaxies
    assert 0.4 < auroc(ordinary, distances(real_cutouts(others))) < 0.65  # the same survey from another archive
    assert ordinary.mean() == pytest.approx(1, abs=0.15)
