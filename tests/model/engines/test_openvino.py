import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from galaxy_batch.cutouts.decode import decode
from galaxy_batch.cutouts.resize import resize
from galaxy_batch.errors import InputError
from galaxy_batch.model.engines.conversion import converted
from galaxy_batch.model.engines.openvino import OpenVinoEngine
from galaxy_batch.model.network import build_model
from galaxy_batch.model.output import ModelOutput
from galaxy_batch.model.spec import ModelSpec
from tests.support.engines import computed, expected


def test_openvino_agrees_with_torch_on_real_galaxies(sky: Path) -> None:
    """The required agreement: the same class for 99.9 %, and 99 % of the probabilities within 0.01."""
    weights = sky / "weights" / "tf_efficientnet_lite0_imagenet_timm.pth"
    torch.manual_seed(0)
    model = build_model(ModelSpec("tf_efficientnet_lite0", ("a", "b"), 160, 0.6, (0.5,) * 3, (0.5,) * 3), str(weights))
    torch.nn.init.normal_(model.backbone.get_classifier().weight, std=0.3)
    files = sorted((sky / "sdss_dr7" / "images").iterdir())[:48]
    pixels = torch.from_numpy(np.stack([resize(decode(f.read_bytes(), 10**6), 160, 0.6) for f in files]))
    engine = OpenVinoEngine(converted(model, 16), "fp32", threads=1)
    output = ModelOutput.join([computed(engine, batch) for batch in pixels.split(16)], np.concatenate)
    probabilities = torch.from_numpy(output.class_logits).softmax(1)
    wanted = torch.from_numpy(expected(model, pixels).class_logits).softmax(1)
    assert wanted[:, 0].std() > 0.1, "the galaxies get different probabilities"
    assert torch.equal(probabilities.argmax(1), wanted.argmax(1))
    assert (probabilities - wanted).abs().max() < 1e-3


def test_missing_openvino_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError, match=r"runtime\.engine.*not installed"):
        OpenVinoEngine(b"", "fp32", 1)
