"""Sound, and log-mels that a client computed, to a release's features."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from soundscape.audio import decode
from soundscape.errors import Invalid, Reason
from soundscape.features import LOG_MEL, FeatureSpec
from soundscape.log_mels import MAX_WINDOWS
from soundscape.testing import ogg, tone
from stream_processors.extract import from_log_mels, from_sound

OTHER = FeatureSpec(n_mels=64)
WAVEFORM = FeatureSpec(kind="waveform", sample_rate=48_000)


def npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    """An array as a file."""
    out = io.BytesIO()
    np.save(out, array, allow_pickle=allow_pickle)
    return out.getvalue()


def mels(windows: int = 1) -> np.ndarray:
    """Log-mels of a tone, float16 (windows, mels, frames)."""
    return LOG_MEL.compute(tone(5.0 * windows, 2000.0)).astype(np.float16)


def test_sound_gives_each_spec_once() -> None:
    """The same numbers as the features' own code, by fingerprint, and the moments in order."""
    body = ogg(10.0, 2000.0)
    found = from_sound(body, (LOG_MEL, OTHER))
    wave = decode(body)
    np.testing.assert_array_equal(found.features[LOG_MEL.fingerprint], LOG_MEL.compute(wave))
    np.testing.assert_array_equal(found.features[OTHER.fingerprint], OTHER.compute(wave))
    assert found.silent == [False, False] and found.decoded <= found.computed


def test_silent_windows_are_told_apart() -> None:
    """A window without sound beside one with."""
    from soundscape.audio import encode_ogg

    body = encode_ogg(np.concatenate([tone(5.0, 2000.0), np.zeros(320_000, np.float32)]))
    assert from_sound(body, (LOG_MEL,)).silent == [False, False, True], "the encoder rings into the second window"


def test_uploaded_log_mels_are_taken() -> None:
    """As float32, with a window of zeros known as silent."""
    array = np.concatenate([mels(), np.zeros_like(mels())])
    found = from_log_mels(npy(array), LOG_MEL.fingerprint, (LOG_MEL, WAVEFORM))
    np.testing.assert_array_equal(found.features[LOG_MEL.fingerprint], array.astype(np.float32))
    assert found.features[LOG_MEL.fingerprint].dtype == np.float32 and found.silent == [False, True]


@pytest.mark.parametrize("fingerprint", ["none", OTHER.fingerprint, WAVEFORM.fingerprint])
def test_features_that_the_release_does_not_take(fingerprint: str) -> None:
    """A wave cannot be uploaded as log-mels either."""
    with pytest.raises(Invalid) as said:
        from_log_mels(npy(mels()), fingerprint, (LOG_MEL, WAVEFORM))
    assert said.value.reason == Reason.UNKNOWN_FEATURES and LOG_MEL.fingerprint in said.value.detail


class Trap:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    """Neither inside an npy nor alone."""
    trap = tmp_path / "sprung"
    for body in (npy(np.array([Trap(trap)], object), allow_pickle=True), pickle.dumps(Trap(trap))):
        with pytest.raises(Invalid) as said:
            from_log_mels(body, LOG_MEL.fingerprint, (LOG_MEL,))
        assert said.value.reason == Reason.BAD_FEATURES
    assert not trap.exists()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x93NUMPY",
        npy(mels())[:-7],
        npy(mels().astype(np.float32)),
        npy(mels()[:, :-1]),
        npy(mels()[0]),
        npy(mels()[:0]),
        npy(np.repeat(mels(), MAX_WINDOWS + 1, axis=0)),
        npy(np.full_like(mels(), np.nan)),
        npy(mels() - np.float16(0.5)),
        npy(mels() + np.float16(0.5)),
    ],
    ids=["empty", "a-start", "cut", "float32", "fewer-mels", "no-windows-axis", "no-window", "too-many", "nan", "below-0", "above-1"],
)
def test_log_mels_that_do_not_hold(body: bytes) -> None:
    """Each is refused with a sentence, whatever numpy made of it."""
    with pytest.raises(Invalid) as said:
        from_log_mels(body, LOG_MEL.fingerprint, (LOG_MEL,))
    assert said.value.reason == Reason.BAD_FEATURES and len(said.value.detail) > 20
