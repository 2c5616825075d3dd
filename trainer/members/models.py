"""The networks: log-mel windows in, one logit a label out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from soundscape.errors import Invalid, Reason
from soundscape.features import FeatureSpec


def _block(inner: int, outer: int, stride: int | tuple[int, int]) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer), nn.ReLU())


def _along(inner: int, outer: int, stride: int = 1) -> nn.Sequential:
    """A step along time; 2-D with a height of 1, which every quantizer knows."""
    return nn.Sequential(nn.Conv2d(inner, outer, (1, 5), (1, stride), (0, 2), bias=False), nn.BatchNorm2d(outer), nn.ReLU())


class Small(nn.Module):
    """Five convolutions over bands and time, then three along time on the mean and maximum over bands.

    The maximum keeps a narrow call that noise in other bands would drown; the steps along time hear rhythm. 0.47 M parameters at
    width 16.
    """

    def __init__(self, labels: int, width: int = 16) -> None:
        super().__init__()
        a, b, c, d = width, 2 * width, 3 * width + 8, 5 * width + 8
        self.stem = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, a, 5, 2, 2, bias=False), nn.BatchNorm2d(a), nn.ReLU())
        self.bands = nn.Sequential(_block(a, b, 2), _block(b, c, (2, 1)), _block(c, d, 2))
        self.time = nn.Sequential(_along(2 * d, 160), _along(160, 160, 2), _along(160, 160))
        last = nn.Linear(320, labels)
        nn.init.constant_(last.bias, -2.5)  # most species are silent most of the time
        self.head = nn.Sequential(nn.Dropout(0.2), last)

    def forward(self, window: Tensor) -> Tensor:
        """Logits (batch, labels) of windows (batch, n_mels, frames)."""
        x = self.bands(self.stem(window.unsqueeze(1)))
        x = self.time(torch.cat([x.mean(2, keepdim=True), x.amax(2, keepdim=True)], 1))
        out: Tensor = self.head(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))
        return out


class MobileNetV2(nn.Module):
    """torchvision's MobileNetV2 with one input channel, from random weights; at half its width three times as much is learnt in a time."""

    def __init__(self, labels: int, width: float = 0.5) -> None:
        super().__init__()
        from torchvision.models import mobilenet_v2

        self.net = mobilenet_v2(num_classes=labels, width_mult=width)
        self.net.features[0][0] = nn.Conv2d(1, self.net.features[0][0].out_channels, 3, 2, 1, bias=False)

    def forward(self, window: Tensor) -> Tensor:
        """Logits (batch, labels) of windows (batch, n_mels, frames)."""
        out: Tensor = self.net(window.unsqueeze(1))
        return out


def _tagger(labels: int) -> nn.Module:
    from trainer.members.tagger import FineTuned

    return FineTuned(labels)


class EfficientNetB0(nn.Module):
    """torchvision's EfficientNet-B0 with one input channel, from random weights."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        from torchvision.models import efficientnet_b0

        self.net = efficientnet_b0(num_classes=labels)
        self.net.features[0][0] = nn.Conv2d(1, 32, 3, 2, 1, bias=False)

    def forward(self, window: Tensor) -> Tensor:
        """Logits (batch, labels) of windows (batch, n_mels, frames)."""
        out: Tensor = self.net(window.unsqueeze(1))
        return out


class ResNet50(nn.Module):
    """torchvision's ResNet-50 with one input channel, from random weights; 23.5 M parameters before the last layer."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        from torchvision.models import resnet50

        self.net = resnet50(num_classes=labels)
        self.net.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)

    def forward(self, window: Tensor) -> Tensor:
        """Logits (batch, labels) of windows (batch, n_mels, frames)."""
        out: Tensor = self.net(window.unsqueeze(1))
        return out


BIRDNET_HEAD, TAGGER_HEAD, CNN14_HEAD, PERCH_HEAD = "birdnet_head", "tagger_head", "cnn14_head", "perch_head"
HEADS = (BIRDNET_HEAD, TAGGER_HEAD, CNN14_HEAD, PERCH_HEAD)
"""Models that are no networks of ours: a linear head on a pretrained model's embeddings (trainer/members/head.py)."""
TAGGER, STUDENT = "tagger", "mobilenet_v2"
MODELS: dict[str, Callable[[int], nn.Module]] = {
    "small": Small, "efficientnet_b0": EfficientNetB0, "resnet50": ResNet50, STUDENT: MobileNetV2, TAGGER: _tagger,
}  # fmt: skip
"""By the name that `--model` takes."""
RATES = {TAGGER: 5e-4}
"""Highest learning rate of a network that begins with pretrained weights; the plan's own for the others."""


def spec_of(name: str, prepared: FeatureSpec) -> FeatureSpec:
    """What a network hears: sound, or the log-mels that are prepared."""
    if name == TAGGER:
        from trainer.members import audioset

        return audioset.FEATURES
    return prepared


def build(name: str, labels: int) -> nn.Module:
    """A network by name. Raises Invalid if there is none of that name, or if its pretrained weights are not here."""
    if name not in MODELS:
        raise Invalid(Reason.BAD_REQUEST, f"There is no model {name!r}; there are {', '.join((*MODELS, *HEADS))}.")
    return MODELS[name](labels)


def is_block(module: nn.Module) -> bool:
    """Whether it is one of the like parts that a large network is stacked of: what is checkpointed, and sharded, as one."""
    from torchvision.models.efficientnet import MBConv
    from torchvision.models.resnet import Bottleneck

    return isinstance(module, (Bottleneck, MBConv))
