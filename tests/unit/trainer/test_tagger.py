"""The AudioSet tagger: its published weights each in their place, what ONNX says of them, and a head on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from soundscape.errors import Invalid, Reason
from soundscape.settings import get_settings
from trainer import graft_onnx, tagger
from trainer.body import missing
from trainer.graft import Head
from trainer.models import TAGGER_HEAD
from trainer.speech import hear_speech

pytestmark = pytest.mark.filterwarnings("ignore")
"""The exporter of torch deprecates parts of itself; those warnings are not ours."""

SOUND = (np.random.default_rng(0).standard_normal((2, *tagger.FEATURES.shape)) * 0.1).astype(np.float32)


def as_published(made: tagger.Tagger) -> dict[str, torch.Tensor]:
    """A tagger's weights by EfficientAT's names and in its shapes."""
    out = {}
    for name, value in made.net.state_dict().items():
        theirs = name.replace("classifier.0.", "classifier.2.").replace("classifier.3.", "classifier.5.")
        squeeze = ".fc1." in name or ".fc2." in name
        if squeeze:
            theirs = theirs.replace(".fc1.", ".conc_se_layers.0.fc1.").replace(".fc2.", ".conc_se_layers.0.fc2.")
        out[theirs] = value[:, :, 0, 0] if squeeze and value.ndim == 4 else value
    return out


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the published form."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("tagger") / "mn04.pt"
    torch.save(as_published(tagger.Tagger(0.4)), path)
    return path


@pytest.fixture(scope="module")
def embedder(weights: Path) -> bytes:
    tagger.export(tagger.load(weights), weights.with_suffix(".onnx"))
    return weights.with_suffix(".onnx").read_bytes()


def run(body: bytes, sound: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(body, providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, {"input": sound})
    return found


def test_every_weight_finds_its_place(weights: Path) -> None:
    """None is left over and none is missing; the front end is not among them."""
    made, published = tagger.load(weights), torch.load(weights, weights_only=True)
    own = as_published(made)
    assert own.keys() == published.keys() and all(torch.equal(own[name], published[name]) for name in own)
    assert made.tags(torch.from_numpy(SOUND)).shape == (2, tagger.CLASSES)


def test_the_front_end_is_kaldis(weights: Path) -> None:
    """As torchaudio computes the same spectrogram frame by frame."""
    sound = torch.from_numpy(SOUND[0])
    emphasised = sound[:, 1:] - 0.97 * sound[:, :-1]
    window = torch.hann_window(tagger.WIN, periodic=False)
    spectrum = torch.stft(emphasised, tagger.N_FFT, tagger.HOP, tagger.WIN, window, center=True, pad_mode="reflect", return_complex=True)
    made = tagger.load(weights).mels
    expected = (torch.log(made.get_buffer("bands") @ spectrum.abs() ** 2 + 1e-5) + 4.5) / 5.0
    torch.testing.assert_close(made(sound)[:, 0], expected, atol=2e-3, rtol=1e-3)


def test_another_files_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no weights")
    torch.save({"some": torch.zeros(3)}, tmp_path / "other.pt")
    for name in ("text.pt", "other.pt"):
        with pytest.raises(Invalid, match="does not hold the weights of EfficientAT") as refused:
            tagger.load(tmp_path / name)
        assert refused.value.reason is Reason.BAD_REQUEST


def test_onnx_hears_as_pytorch_does_and_a_head_answers_beside_the_events(weights: Path, embedder: bytes) -> None:
    embedding, events = run(embedder, SOUND)
    with torch.inference_mode():
        own = tagger.load(weights)(torch.from_numpy(SOUND))
    np.testing.assert_allclose(embedding, own[0].numpy(), atol=1e-4)
    np.testing.assert_allclose(events, own[1].numpy(), atol=1e-3)
    assert events.shape == (2, len(tagger.EVENTS))
    rng = np.random.default_rng(1)
    head = Head(rng.standard_normal((5, embedding.shape[2])).astype(np.float32), rng.standard_normal(5).astype(np.float32))
    (output,) = run(served := graft_onnx.with_head(embedder, head), SOUND)
    np.testing.assert_allclose(output, np.concatenate([embedding[:, 0] @ head.weight.T + head.bias, events], axis=1), atol=1e-3)
    kept = graft_onnx.head_of(served)
    assert np.array_equal(kept.weight, head.weight) and np.array_equal(kept.bias, head.bias)


def test_speech_is_scored_window_by_window_and_only_where_it_is_likeliest(weights: Path, embedder: bytes, tmp_path: Path) -> None:
    sound = np.concatenate([SOUND[0, 0], SOUND[1, 0], SOUND[0, 0]])
    soundfile.write(tmp_path / "sound.wav", sound, 32_000, subtype="FLOAT")
    (tmp_path / "events.onnx").write_bytes(embedder)
    events = run(embedder, SOUND)[1]
    for column in range(len(tagger.EVENTS)):
        likely = np.where(events.argmax(axis=1) == column, 1 / (1 + np.exp(-events[:, column])), 0.0)
        found = hear_speech(tmp_path / "sound.wav", tmp_path / "events.onnx", tagger.FEATURES, column)
        np.testing.assert_allclose(found, [*likely, likely[0]], atol=1e-3)


def test_what_no_head_fits_is_refused(embedder: bytes) -> None:
    with pytest.raises(Invalid, match="the embedding has 384 numbers"):
        graft_onnx.with_head(embedder, Head(np.zeros((2, 7), np.float32), np.zeros(2, np.float32)))
    with pytest.raises(Invalid, match="does not end in a head"):
        graft_onnx.head_of(embedder)
    with pytest.raises(Invalid, match="no ONNX model"):
        graft_onnx.head_of(b"this is no model")


def test_weights_that_are_not_there_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the cure; a path that names nothing is another matter."""
    for path, says in ((None, "set SOUNDSCAPE_TAGGER"), (tmp_path / "nowhere.pt", "where no file is")):
        monkeypatch.delenv("SOUNDSCAPE_TAGGER", raising=False)
        if path is not None:
            monkeypatch.setenv("SOUNDSCAPE_TAGGER", str(path))
        get_settings.cache_clear()
        assert says in missing(TAGGER_HEAD)
    get_settings.cache_clear()
