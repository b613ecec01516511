"""A backbone as a sequence of blocks, which separates frozen from trainable layers."""

from collections.abc import Iterable
from itertools import pairwise

import torch
from timm.models.efficientnet import EfficientNet
from torch import nn

from galaxy_batch.model.network import MorphologyModel, normalise

__all__ = ["Layers"]


class Layers:
    """A model in order: stages (stem and blocks), pooling, linear head.

    EfficientNets are split block by block; in any other timm model the whole feature extractor is one block.
    """

    def __init__(self, model: MorphologyModel) -> None:
        self.model = model
        net = model.backbone
        self.head: nn.Module = net.get_classifier()  # type: ignore[operator]
        self.features: int = net.num_features  # type: ignore[assignment]
        if isinstance(net, EfficientNet):
            blocks: list[nn.Module] = list(net.blocks)
            self.stages: list[nn.Module] = [nn.Sequential(net.conv_stem, net.bn1), *blocks]
            self.pooling: nn.Module = nn.Sequential(net.conv_head, net.bn2, net.global_pool)
        else:
            self.stages, self.pooling = [_Features(net)], _Pooling(net)
        self.folded = False

    @torch.no_grad()
    def fold_batch_norms(self) -> None:
        """Fold the scale of each frozen batch norm into the preceding convolution; the network's output is unchanged.

        A batch norm with fixed statistics scales and shifts the convolution's output, so one optimiser step has a
        different size in each channel. After folding, the scale is 1 and fixed, and the shift is trainable. Only for
        EfficientNets, where a convolution directly precedes every batch norm.
        """
        if not isinstance(self.model.backbone, EfficientNet):
            return
        for parent in (module for stage in [*self.stages, self.pooling] for module in stage.modules()):
            children = list(parent.children())
            for conv, norm in pairwise(children):
                if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.modules.batchnorm._BatchNorm):
                    continue
                assert norm.running_mean is not None
                assert norm.running_var is not None
                scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
                conv.weight.mul_(scale.view(-1, 1, 1, 1))
                norm.bias.sub_(norm.running_mean * scale)
                norm.running_mean.zero_()
                norm.running_var.fill_(1 - norm.eps)
                norm.weight.fill_(1)
                self.folded = True

    def frozen(self, pixels: torch.Tensor, blocks: int) -> torch.Tensor:
        """Activations of uint8 pixels ``(N, 3, h, w)`` before the last `blocks` blocks; before the head for 0."""
        values = normalise(pixels, self.model.spec.mean, self.model.spec.std)
        return _run(values, [*self.stages, self.pooling] if not blocks else self.stages[: self._first(blocks)])

    def pooled(self, activations: torch.Tensor, blocks: int) -> torch.Tensor:
        """Pooled features ``(N, features)`` of the activations that `frozen` gives for the same `blocks`."""
        return _run(activations, self.upper(blocks))

    def upper(self, blocks: int) -> list[nn.Module]:
        """Modules between `frozen` and the head: the last `blocks` blocks and the pooling; none for 0."""
        return [*self.stages[self._first(blocks) :], self.pooling] if blocks else []

    def set_learning(self, blocks: int, batch_norm_train: bool) -> None:
        """Make the heads and the last `blocks` blocks trainable and freeze the rest."""
        self.model.requires_grad_(False).eval()
        questions = [] if self.model.questions is None else [self.model.questions]
        for module in [*self.upper(blocks), self.head, *questions]:
            module.requires_grad_(True).train()
            for inner in module.modules():
                if isinstance(inner, nn.modules.batchnorm._BatchNorm) and not batch_norm_train:
                    inner.eval()
                    if self.folded:
                        inner.weight.requires_grad_(False)

    def _first(self, blocks: int) -> int:
        """First trainable stage; the stem (0) when every block is trainable."""
        return 0 if blocks >= len(self.stages) - 1 else len(self.stages) - blocks


def _run(values: torch.Tensor, modules: Iterable[nn.Module]) -> torch.Tensor:
    for module in modules:
        values = module(values)
    return values


class _Features(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.net.forward_features(values)  # type: ignore[operator]
        return features


class _Pooling(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self.net.forward_head(values, pre_logits=True)  # type: ignore[operator]
        return pooled
