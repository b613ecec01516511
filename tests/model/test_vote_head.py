import torch

from galaxy_batch.model.vote_head import VoteHead


def test_concentrations_are_bounded() -> None:
    head = VoteHead(4, 3)
    values = head(torch.tensor([[0.0] * 4, [1e6, -1e6, 1e6, 5.0]], dtype=torch.bfloat16).float())
    assert values.dtype == torch.float32
    assert torch.isfinite(values).all()
    assert values.min() > 0.04
    assert values.max() < 150
    assert torch.allclose(values[0], torch.full((3,), torch.e), atol=1e-4)  # starts undecided
