"""PANNs' CNN14: the published names, the front end of librosa, sound events, and a head on it; with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from librosa.filters import mel

from soundscape.errors import Invalid, Reason
from soundscape.settings import get_settings
from trainer.members import audioset, cnn14
from trainer.members.body import body_of, missing
from trainer.members.graft import Head
from trainer.members.models import CNN14_HEAD

pytestmark = pytest.mark.filterwarnings("ignore")
"""The exporter of torch deprecates parts of itself; those warnings are not ours."""

SOUND = (np.random.default_rng(0).standard_normal((2, *audioset.FEATURES.shape)) * 0.1).astype(np.float32)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Random weights as they are published, where the setting says."""
    torch.manual_seed(0)
    path = tmp_path / "Cnn14.pth"
    net = cnn14.Cnn14()
    bands = mel(sr=32_000, n_fft=1024, n_mels=64, fmin=50, fmax=14_000)
    net.logmel_extractor.melW.copy_(torch.from_numpy(bands.T.copy()))
    torch.save({"model": net.state_dict()}, path)
    monkeypatch.setenv("SOUNDSCAPE_CNN14", str(path))
    get_settings.cache_clear()
    yield path
    get_settings.cache_clear()


def test_every_published_weight_has_its_place(weights: Path) -> None:
    """By the names of `Cnn14_mAP=0.431.pth`, of which some are spelt out here; 80.8 M numbers are learnt, as the paper says."""
    published, made = torch.load(weights, weights_only=True)["model"], cnn14.load(weights)
    assert all(torch.equal(value, published[name]) for name, value in made.state_dict().items())
    shapes = {
        "spectrogram_extractor.stft.conv_real.weight": (513, 1, 1024), "logmel_extractor.melW": (513, 64), "bn0.running_mean": (64,),
        "conv_block1.conv1.weight": (64, 1, 3, 3), "conv_block6.bn2.weight": (2048,), "fc_audioset.bias": (527,),
    }  # fmt: skip
    assert {name: tuple(published[name].shape) for name in shapes} == shapes
    assert sum(one.numel() for one in made.parameters() if one.requires_grad) == pytest.approx(80.8e6, rel=0.005)


def test_the_front_end_is_librosas(weights: Path) -> None:
    made, sound = cnn14.load(weights), SOUND[0, 0]
    power = librosa.feature.melspectrogram(
        y=sound, sr=32_000, n_fft=1024, hop_length=320, n_mels=64, fmin=50, fmax=14_000, center=True, pad_mode="reflect"
    )
    with torch.inference_mode():
        own = made.spectrogram_extractor.stft(torch.from_numpy(sound[None])).transpose(1, 2) @ made.logmel_extractor.melW
    np.testing.assert_allclose(own[0].T, power, rtol=1e-3, atol=1e-5)


def test_other_weights_are_refused_with_one_sentence(weights: Path) -> None:
    other = weights.with_name("other.pth")
    kept = torch.load(weights, weights_only=True)["model"]
    wide = {**kept, "fc1.weight": torch.zeros(512, 512)}
    for model in ({"model": wide}, {"model": {name: value for name, value in kept.items() if name != "bn0.weight"}}, kept, torch.zeros(3)):
        torch.save(model, other)
        with pytest.raises(Invalid, match=r"other.pth does not hold the weights of PANNs' CNN14.*; give Cnn14_mAP") as refused:
            cnn14.load(other)
        assert refused.value.reason is Reason.BAD_REQUEST and "\n" not in refused.value.detail


@pytest.mark.slow
def test_onnx_hears_as_pytorch_does_with_a_head_of_ours_beside_the_events(weights: Path) -> None:
    import onnxruntime

    body = body_of(CNN14_HEAD)
    head = Head(np.random.default_rng(1).standard_normal((3, cnn14.WIDE)).astype(np.float32), np.zeros(3, np.float32))
    session = onnxruntime.InferenceSession(body.served(head), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"input": SOUND})
    with torch.inference_mode():
        embedding, events = cnn14.load(weights)(torch.from_numpy(SOUND))
    np.testing.assert_allclose(output, np.concatenate([embedding[:, 0] @ head.weight.T, events], axis=1), rtol=1e-3, atol=1e-3)
    assert body.events == tuple(audioset.EVENTS)


def test_weights_that_are_not_there_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOUNDSCAPE_CNN14", raising=False)
    get_settings.cache_clear()
    assert "set SOUNDSCAPE_CNN14 to PANNs' Cnn14_mAP=0.431.pth" in missing(CNN14_HEAD)
    get_settings.cache_clear()
