"""PANNs' CNN14: sound events, and a body for a head of our own.

Kong et al. 2020, "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition", trained on AudioSet's 527 classes
of sound. Its published weights (`Cnn14_mAP=0.431.pth`, 32 kHz) are given by path (`SOUNDSCAPE_CNN14`) and are no part of this project;
without them it is left out. The names of the parts are those of the published file, so that it loads strictly.
"""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad, relu

from soundscape.errors import Invalid, Reason
from soundscape.settings import get_settings
from trainer.members import audioset

LICENCE = "CC BY 4.0 (PANNs, Qiuqiang Kong)"
WINDOW, HOP, BANDS = 1024, 320, 64
CHANNELS = (64, 128, 256, 512, 1024, 2048)
WIDE = 2048
"""Numbers of the embedding."""
AMIN = 1e-10


class _Stft(nn.Module):
    """Fourier transform of Hann windows as convolutions; real and imaginary weights are in the published file."""

    def __init__(self) -> None:
        super().__init__()
        bins = WINDOW // 2 + 1
        angle = torch.arange(bins)[:, None] * torch.arange(WINDOW)[None] * (2 * math.pi / WINDOW)
        hann = torch.hann_window(WINDOW, dtype=torch.float64)
        for name, waves in (("conv_real", torch.cos(angle.double())), ("conv_imag", -torch.sin(angle.double()))):
            conv = nn.Conv1d(1, bins, WINDOW, HOP, bias=False)
            conv.weight = nn.Parameter((waves * hann).float()[:, None], requires_grad=False)
            self.add_module(name, conv)

    def forward(self, sound: Tensor) -> Tensor:
        """Power (batch, bins, frames) of sound (batch, samples)."""
        padded = pad(sound.unsqueeze(1), (WINDOW // 2, WINDOW // 2), mode="reflect")
        real, imaginary = (self.get_submodule(name)(padded) for name in ("conv_real", "conv_imag"))
        power: Tensor = real**2 + imaginary**2
        return power


class _Spectrogram(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stft = _Stft()


class _LogMel(nn.Module):
    """Mel bands from 50 to 14,000 Hz; they come with the published weights, as no weights of ours do."""

    def __init__(self) -> None:
        super().__init__()
        self.melW = nn.Parameter(torch.zeros(WINDOW // 2 + 1, BANDS), requires_grad=False)


class _Block(nn.Module):
    """Two convolutions, each with batch norm."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(inner, outer, 3, padding=1, bias=False), nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outer), nn.BatchNorm2d(outer)

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.bn2(self.conv2(relu(self.bn1(self.conv1(x))))))


class Cnn14(nn.Module):
    """CNN14 as published, without what only its training needs (SpecAugment and dropout have no weights)."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrogram_extractor, self.logmel_extractor, self.bn0 = _Spectrogram(), _LogMel(), nn.BatchNorm2d(BANDS)
        for n, (inner, outer) in enumerate(zip((1, *CHANNELS), CHANNELS, strict=False), 1):
            self.add_module(f"conv_block{n}", _Block(inner, outer))
        self.fc1, self.fc_audioset = nn.Linear(WIDE, WIDE), nn.Linear(WIDE, audioset.CLASSES)

    def embedding(self, windows: Tensor) -> Tensor:
        """Numbers before the last layer, (batch, WIDE), of windows of sound (batch, 1, samples)."""
        power = self.spectrogram_extractor.stft(windows.flatten(0, 1)).transpose(1, 2)
        decibels = 10 * torch.log10((power @ self.logmel_extractor.melW).clamp(min=AMIN))
        x: Tensor = self.bn0(decibels.transpose(1, 2).unsqueeze(2)).permute(0, 2, 3, 1)  # (batch, 1, frames, bands)
        for n in range(1, len(CHANNELS) + 1):
            x = self.get_submodule(f"conv_block{n}")(x)
            x = avg_pool2d(x, 2) if n < len(CHANNELS) else x
        x = x.mean(3)
        return relu(self.fc1(x.amax(2) + x.mean(2)))

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Of windows of sound (batch, 1, samples): the embedding (batch, 1, WIDE), and logits of EVENTS (batch, events)."""
        embedding = self.embedding(windows)
        return embedding.unsqueeze(1), audioset.events(self.fc_audioset(embedding))


def cnn14_file() -> Path:
    """The weights' file. Raises Invalid (bad-request) with the cure if there is none."""
    cure = "PANNs' Cnn14_mAP=0.431.pth (zenodo.org/records/3987831)"
    return audioset.given(get_settings().cnn14, "SOUNDSCAPE_CNN14", "CNN14's weights", cure)


def load(path: Path) -> Cnn14:
    """CNN14 with its published weights, each in its place. Raises Invalid for any other file."""
    net = Cnn14()
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
        net.load_state_dict(kept["model"])
    except (OSError, RuntimeError, LookupError, TypeError, AttributeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        what = f"{path} does not hold the weights of PANNs' CNN14 at 32 kHz ({type(error).__name__}); give Cnn14_mAP=0.431.pth."
        raise Invalid(Reason.BAD_REQUEST, what) from error
    return net.eval()
