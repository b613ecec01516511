import pytest
import torch

from galaxy_batch.model.embedding import Embedding


def test_projection_on_the_components() -> None:
    embedding = Embedding(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    assert embedding(torch.tensor([[5.0, 2.5, 9.0]])).tolist() == [[0.5, 4.0]]


def test_components_of_other_features_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Embedding(torch.zeros(3), torch.zeros(2, 4))
