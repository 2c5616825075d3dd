"""The AudioSet tagger of EfficientAT: sound events, and a body for a head of our own.

MobileNetV3 of 0.4 width (Schmid, Koutini and Widmer 2023, "Efficient Large-Scale Audio Tagging via Transformer-to-CNN Knowledge
Distillation"), trained on AudioSet's 527 classes of sound. Its weights are given by path (`SOUNDSCAPE_TAGGER`) and are no part of this
project; without them it is left out.
"""

from __future__ import annotations

import math
import pickle
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from soundscape.errors import Invalid, Reason
from soundscape.settings import get_settings
from trainer.members.audioset import CLASSES, FEATURES, events, given

LICENCE = "MIT (EfficientAT, Florian Schmid)"
N_FFT, WIN, HOP, N_MELS, FMAX = 1024, 800, 320, 128, 15_000
"""Of EfficientAT's front end at 32 kHz, as its pretrained weights want it."""
MASKS = (24, 80)
"""Bands and frames that a stripe of SpecAugment hides at most, one of each a window."""
_WIDEST = 1280
"""Of MobileNetV3's last hidden layer at width 1."""


class Mels(nn.Module):
    """EfficientAT's front end as operations that ONNX knows: float32 (batch, samples) at 32 kHz to (batch, 1, bands, frames).

    Pre-emphasis of 0.97, a symmetric Hann window of WIN samples in frames of N_FFT, power, Kaldi's mel bands, and the logarithm shifted
    by 4.5 and divided by 5.
    """

    def __init__(self) -> None:
        super().__init__()
        from torchaudio.compliance.kaldi import get_mel_banks

        window, margin = torch.zeros(N_FFT, dtype=torch.float64), (N_FFT - WIN) // 2
        window[margin : margin + WIN] = torch.hann_window(WIN, periodic=False, dtype=torch.float64)
        angle = torch.arange(N_FFT // 2 + 1)[:, None] * torch.arange(N_FFT)[None] * (2 * math.pi / N_FFT)
        waves = torch.cat([torch.cos(angle.double()), torch.sin(angle.double())]) * window
        bands, _ = get_mel_banks(N_MELS, N_FFT, float(FEATURES.sample_rate), 0.0, float(FMAX), 100.0, -500.0, 1.0)
        self.register_buffer("waves", waves.float()[:, None])
        self.register_buffer("bands", nn.functional.pad(bands, (0, 1)))

    def forward(self, sound: Tensor) -> Tensor:
        """The tagger's spectrogram."""
        emphasised = (sound[:, 1:] - 0.97 * sound[:, :-1]).unsqueeze(1)
        if self.training:  # the same by Fourier transforms, four times as fast; ONNX has no such operation that is served
            window = torch.hann_window(WIN, periodic=False, device=sound.device)
            spectrum = torch.stft(emphasised.squeeze(1), N_FFT, HOP, WIN, window, pad_mode="reflect", return_complex=True)
            power = spectrum.real**2 + spectrum.imag**2
        else:
            padded = nn.functional.pad(emphasised, (N_FFT // 2, N_FFT // 2), mode="reflect")
            both = nn.functional.conv1d(padded, self.get_buffer("waves"), stride=HOP)
            half = N_FFT // 2 + 1
            power = both[:, :half] ** 2 + both[:, half:] ** 2
        return ((torch.log(self.get_buffer("bands") @ power + 1e-5) + 4.5) / 5.0).unsqueeze(1)


class Tagger(nn.Module):
    """The front end, MobileNetV3's features, and its classifier."""

    def __init__(self, width: float) -> None:
        super().__init__()
        self.mels, self.net = Mels(), _mobilenet(width)

    def forward(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Of windows of sound (batch, 1, samples): the embedding (batch, 1, channels), and logits of EVENTS (batch, events)."""
        features, pool, classifier = (self.net.get_submodule(name) for name in ("features", "avgpool", "classifier"))
        pooled = pool(features(self.mels(windows.flatten(0, 1)))).flatten(1)
        tags = classifier(pooled)
        return pooled.unsqueeze(1), events(tags)

    def tags(self, windows: Tensor) -> Tensor:
        """Logits of AudioSet's classes (batch, CLASSES), of windows of sound (batch, 1, samples)."""
        out: Tensor = self.net(self.mels(windows.flatten(0, 1)))
        return out


class FineTuned(nn.Module):
    """The tagger to be trained on: its front end, its features and hidden layer as published, and a last layer for our labels."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        from torchaudio.transforms import FrequencyMasking, TimeMasking

        tagger = load(tagger_file())
        features, pool, classifier = (tagger.net.get_submodule(name) for name in ("features", "avgpool", "classifier"))
        self.mels = tagger.mels
        self.masks = nn.Sequential(FrequencyMasking(MASKS[0], iid_masks=True), TimeMasking(MASKS[1], iid_masks=True))
        self.body = nn.Sequential(features, pool, nn.Flatten(), *list(classifier.children())[:-1])
        self.head = nn.Linear(tagger.net.state_dict()["classifier.3.weight"].shape[1], labels)
        nn.init.constant_(self.head.bias, -4.0)  # most species are silent most of the time

    def forward(self, windows: Tensor) -> Tensor:
        """Logits (batch, labels) of windows of sound (batch, 1, samples)."""
        with torch.autocast(windows.device.type, enabled=False):  # power spans more than half precision holds
            mels = self.mels(windows.flatten(0, 1))
        out: Tensor = self.head(self.body(self.masks(mels) if self.training else mels))
        return out


def tagger_file() -> Path:
    """The weights' file. Raises Invalid (bad-request) with the cure if there is none."""
    cure = "EfficientAT's mn04_as_mAP_432.pt (MIT licence; github.com/fschmid56/EfficientAT, releases)"
    return given(get_settings().tagger, "SOUNDSCAPE_TAGGER", "The AudioSet tagger's weights", cure)


def load(path: Path) -> Tagger:
    """The tagger with its published weights, each in its place. Raises Invalid for any other file."""
    try:
        kept = torch.load(path, map_location="cpu", weights_only=True)
        width = kept["classifier.2.weight"].shape[0] / _WIDEST
        tagger = Tagger(width)
        tagger.net.load_state_dict(_renamed(kept, tagger.net.state_dict()))
    except (OSError, RuntimeError, KeyError, TypeError, AttributeError, IndexError, ValueError, EOFError, pickle.UnpicklingError) as error:
        what = f"{path} does not hold the weights of EfficientAT's MobileNetV3 ({type(error).__name__}); give the file that it publishes."
        raise Invalid(Reason.BAD_REQUEST, what) from error
    return tagger.eval()


def _renamed(kept: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """EfficientAT's names and shapes as torchvision's: its squeeze-and-excitation is one of several, and made of linear layers."""
    out = {}
    for name, value in kept.items():
        mine = name.replace(".conc_se_layers.0", "").replace("classifier.2.", "classifier.0.").replace("classifier.5.", "classifier.3.")
        linear = value.ndim == 2 and wanted[mine].ndim == 4
        out[mine] = value[:, :, None, None] if linear else value
    return out


def _mobilenet(width: float) -> nn.Module:
    """torchvision's MobileNetV3 (large) as EfficientAT builds it: one input channel, and sigmoids that are not hard ones."""
    from torchvision.models.mobilenetv3 import InvertedResidual, InvertedResidualConfig, MobileNetV3
    from torchvision.ops.misc import SqueezeExcitation

    row = partial(InvertedResidualConfig, width_mult=width)
    settings = [
        row(16, 3, 16, 16, False, "RE", 1, 1),
        row(16, 3, 64, 24, False, "RE", 2, 1),
        row(24, 3, 72, 24, False, "RE", 1, 1),
        row(24, 5, 72, 40, True, "RE", 2, 1),
        row(40, 5, 120, 40, True, "RE", 1, 1),
        row(40, 5, 120, 40, True, "RE", 1, 1),
        row(40, 3, 240, 80, False, "HS", 2, 1),
        row(80, 3, 200, 80, False, "HS", 1, 1),
        row(80, 3, 184, 80, False, "HS", 1, 1),
        row(80, 3, 184, 80, False, "HS", 1, 1),
        row(80, 3, 480, 112, True, "HS", 1, 1),
        row(112, 3, 672, 112, True, "HS", 1, 1),
        row(112, 5, 672, 160, True, "HS", 2, 1),
        row(160, 5, 960, 160, True, "HS", 1, 1),
        row(160, 5, 960, 160, True, "HS", 1, 1),
    ]
    channels = partial(InvertedResidualConfig.adjust_channels, width_mult=width)
    gate = partial(SqueezeExcitation, scale_activation=nn.Sigmoid)
    net = MobileNetV3(settings, channels(_WIDEST), CLASSES, block=partial(InvertedResidual, se_layer=gate))
    net.features[0][0] = nn.Conv2d(1, channels(16), 3, 2, 1, bias=False)
    made: nn.Module = net
    return made
