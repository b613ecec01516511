import subprocess
import sys

import numpy as np
import pytest

from galaxy_batch.model.engines.class_maps import class_maps
from galaxy_batch.model.engines.conversion import converted
from galaxy_batch.model.grad_cam import grad_cam
from tests.support.engines import model_of, pixels_of
from tests.support.repository import REPOSITORY

CLASSES = np.array([1, 0, 1])


@pytest.mark.parametrize("architecture", ["test_efficientnet", "test_resnet"])
def test_the_maps_are_those_of_grad_cam(architecture: str) -> None:
    model, pixels = model_of(architecture), pixels_of(3)
    network, cutouts = converted(model, 1), list(pixels.numpy())
    maps = class_maps(network, cutouts, CLASSES)
    expected = grad_cam(model, pixels, CLASSES)
    assert maps is not None
    assert expected is not None
    assert float(expected.max()) > 0
    np.testing.assert_allclose(maps, expected.numpy(), rtol=1e-3, atol=1e-4 * float(expected.max()))
    other = class_maps(network, cutouts, 1 - CLASSES)
    assert other is not None
    assert not np.allclose(maps, other)


@pytest.mark.parametrize("architecture", ["test_convnext", "test_vit"])
def test_other_networks_have_none(architecture: str) -> None:
    assert class_maps(converted(model_of(architecture), 1), list(pixels_of(1).numpy()), CLASSES[:1]) is None


def test_torch_is_not_imported() -> None:
    script = "import sys, galaxy_batch.release_page.page, openvino; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=True, timeout=120)
