"""Stretches of sound as files."""

from __future__ import annotations

import numpy as np
import pytest

from soundscape.audio import SAMPLE_RATE, decode, encode_ogg
from soundscape.errors import Invalid
from soundscape.testing import ogg, tone
from trainer.replay_cut import cut


def _hertz(body: bytes) -> float:
    """The loudest pitch of a sound."""
    wave = decode(body)
    return float(np.abs(np.fft.rfft(wave))[10:].argmax() + 10) * SAMPLE_RATE / wave.size


def test_a_stretch_holds_its_own_seconds() -> None:
    body = encode_ogg(np.concatenate([tone(5.0, 500.0), tone(5.0, 2000.0), tone(5.0, 8000.0)]))
    low, mid, top, beyond = cut(body, [(0.0, 5.0), (5.0, 10.0), (10.0, None), (15.0, 20.0)])
    assert low and mid and top and beyond is None
    for got, hertz in ((low, 500.0), (mid, 2000.0), (top, 8000.0)):
        assert abs(_hertz(got.body) - hertz) < 5 and got.seconds == 5.0


def test_a_whole_clip_keeps_its_bytes() -> None:
    """What is not encoded again loses nothing; another rate is."""
    body = ogg(5.0)
    assert [got and got.body == body for got in cut(body, [(0.0, 5.0), (0.0, None), (0.0, 2.0)])] == [True, True, False]


def test_what_is_no_sound_is_refused() -> None:
    with pytest.raises(Invalid):
        cut(b"OggS and no more", [(0.0, None)])


def test_a_long_stretch_is_cut_at_a_minute() -> None:
    (got,) = cut(ogg(70.0), [(0.0, None)])
    assert got and got.seconds == 60.0
