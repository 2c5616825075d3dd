"""Stretches of sound as files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from soundscape.audio import SAMPLE_RATE, decode, encode_ogg
from soundscape.errors import Invalid, Reason
from soundscape.isolation import DEATHS
from soundscape.testing import ogg, tone
from trainer.replay.cut import cut, in_child


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


class Pool:
    """Children that die so many times before one lives."""

    def __init__(self, deaths: int) -> None:
        self.deaths = deaths

    async def run(self, work: Callable[..., Any], *args: Any) -> Any:
        """As a ChildPool."""
        self.deaths -= 1
        if self.deaths >= 0:
            raise Invalid(Reason.DECODER_DIED, "It died.")
        return work(*args)


@pytest.mark.parametrize(("deaths", "told"), [(0, True), (DEATHS - 1, True), (DEATHS, False)])
async def test_a_child_that_was_held_up_costs_no_clip(deaths: int, told: bool) -> None:
    """Else the same range would not give the same dataset on a busy machine."""
    pool: Any = Pool(deaths)
    assert isinstance(await in_child(pool, cut, ogg(), [(0.0, None)]), Invalid) != told
