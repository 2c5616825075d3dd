"""The AudioSet tagger: its published weights each in their place, what ONNX says of them, and a head on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import torch

from soundscape.errors import Invalid, Reason
from soundscape.settings import get_settings
from trainer.data.prepare import prepare
from trainer.data.speech import hear_speech
from trainer.evaluation.hear import sound_of
from trainer.members import audioset, graft_onnx, tagger
from trainer.members.body import missing
from trainer.members.graft import Head
from trainer.members.models import TAGGER_HEAD, spec_of
from trainer.releases import quantize
from trainer.testing import write_folder
from trainer.training.learn import Learner
from trainer.training.plan import Plan

pytestmark = pytest.mark.filterwarnings("ignore")
"""The exporter of torch deprecates parts of itself; those warnings are not ours."""

SOUND = (np.random.default_rng(0).standard_normal((2, *audioset.FEATURES.shape)) * 0.1).astype(np.float32)


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
    audioset.export(tagger.load(weights), weights.with_suffix(".onnx"))
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
    assert made.tags(torch.from_numpy(SOUND)).shape == (2, audioset.CLASSES)


def test_the_front_end_is_kaldis(weights: Path) -> None:
    """As torchaudio computes the same spectrogram frame by frame."""
    sound = torch.from_numpy(SOUND[0])
    emphasised = sound[:, 1:] - 0.97 * sound[:, :-1]
    window = torch.hann_window(tagger.WIN, periodic=False)
    spectrum = torch.stft(emphasised, tagger.N_FFT, tagger.HOP, tagger.WIN, window, center=True, pad_mode="reflect", return_complex=True)
    made = tagger.load(weights).mels
    expected = (torch.log(made.get_buffer("bands") @ spectrum.abs() ** 2 + 1e-5) + 4.5) / 5.0
    torch.testing.assert_close(made(sound)[:, 0], expected, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(made.train()(sound), made.eval()(sound), atol=2e-3, rtol=1e-3)


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
    assert events.shape == (2, len(audioset.EVENTS))
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
    for column in range(len(audioset.EVENTS)):
        likely = np.where(events.argmax(axis=1) == column, 1 / (1 + np.exp(-events[:, column])), 0.0)
        found = hear_speech(tmp_path / "sound.wav", tmp_path / "events.onnx", audioset.FEATURES, column)
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


@pytest.fixture
def given(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The random weights, as the setting names them."""
    monkeypatch.setenv("SOUNDSCAPE_TAGGER", str(weights))
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.mark.usefixtures("given")
def test_it_is_trained_on_from_its_weights_and_served_as_a_network_that_hears_sound(tmp_path: Path) -> None:
    """A step of the loop moves its features and its last layer, and int8 leaves its front end alone."""
    data = write_folder(tmp_path / "data", clips=2, seconds=1.0, minutes=0)
    prepared = prepare(data, tmp_path / "datasets", lambda _: None, children=0)[0]
    learner = Learner(prepared.folder, Plan(model="tagger", minutes=0.001, batch=4), composers=0)
    before = {name: value.clone() for name, value in learner.net.state_dict().items()}
    published = tagger.load(get_settings().tagger or Path())
    assert torch.equal(before["body.0.0.0.weight"], published.net.get_parameter("features.0.0.weight"))
    found = learner.run_epoch()
    learner.close()
    after = learner.net.state_dict()
    assert not torch.equal(before["body.0.0.0.weight"], after["body.0.0.0.weight"])
    assert not torch.equal(before["head.weight"], after["head.weight"]) and torch.equal(before["mels.bands"], after["mels.bands"])
    assert found["loss"] > 0
    net, fp32, int8 = learner.average.module, tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    assert quantize.export(net, fp32, spec_of("tagger", prepared.spec), SOUND) < quantize.PARITY
    quantize.quantize(fp32, int8, SOUND)
    rounded = {node.input[0].split("_Quantize")[0] for node in onnx.load(str(int8)).graph.node if node.op_type == "QuantizeLinear"}
    assert rounded and not any(name.startswith("/mels/") and "Unsqueeze" not in name for name in rounded)


@pytest.mark.recordings
def test_it_names_dog_rooster_rain_and_speech_on_the_recordings_that_have_them() -> None:
    """Its published weights on real recordings; which have rain and a voice is told in docs/decisions/0016-members.md."""
    recordings, weights = (Path(os.environ[name]) for name in ("SOUNDSCAPE_RECORDINGS", "SOUNDSCAPE_RECORDINGS_TAGGER"))
    heard = tagger.load(weights)

    @cache
    def tags(path: Path) -> torch.Tensor:
        with torch.inference_mode():
            return torch.sigmoid(heard.tags(torch.from_numpy(audioset.FEATURES.compute(sound_of(path)))))

    def loudest(path: Path, *names: str) -> float:
        return float(tags(path)[:, [audioset.INDEX[name] for name in names]].max())

    def among(pattern: str, *names: str) -> np.ndarray:
        return np.array([loudest(path, *names) for path in sorted(recordings.glob(pattern))])

    dog, rooster = ("Dog", "Bark"), ("Chicken, rooster", "Crowing, cock-a-doodle-doo")
    for pattern, own, other in (("train_audio/47144/*.ogg", dog, rooster), ("train_audio/redjun/*.ogg", rooster, dog)):
        mine, theirs = among(pattern, *own), among(pattern, *other)
        assert len(mine) >= 29 and (mine > theirs).all() and (mine > 0.5).mean() > 0.85
    rain = audioset.EVENTS["rain"]
    assert (among("train_soundscapes/COMP_*.ogg", *rain) > 0.5).sum() >= 3
    fair = [name for name in recordings.glob("train_soundscapes/*.ogg") if not name.name.startswith("COMP_")]
    assert len(fair) == 4 and max(loudest(name, *rain) for name in fair) < 0.05
    announced = recordings / "train_audio/332307/ISET_Take47.ogg"
    crickets = among("train_audio/332307/*.ogg", *audioset.EVENTS["speech"])
    assert loudest(announced, *audioset.EVENTS["speech"]) > 0.5 > 0.2 > float(np.median(crickets))
