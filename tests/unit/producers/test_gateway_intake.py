"""What the door does with bytes: length by the pages, OGG as it is, everything else encoded, log-mels by their header alone."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import soundfile

from producers.gateway import ogg
from producers.gateway.intake import NPY, lane_of, prepare_log_mels, prepare_sound, recorded
from producers.gateway.schemas import Told
from soundscape.audio import SAMPLE_RATE, decode, encode_ogg
from soundscape.errors import Invalid, Reason
from soundscape.events import MinuteRecorded
from soundscape.features import LOG_MEL

SPECS = {LOG_MEL.fingerprint: LOG_MEL}


class Here:
    """Children that are this process."""

    def __init__(self) -> None:
        self.asked = 0

    async def run(self, work: Any, *args: Any) -> Any:
        self.asked += 1
        return work(*args)


def noise(seconds: float, rate: int = SAMPLE_RATE) -> np.ndarray[Any, np.dtype[np.float32]]:
    return (np.random.default_rng(3).standard_normal(int(seconds * rate)) * 0.1).astype(np.float32)


def npy(array: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array, **options)
    return out.getvalue()


def mels(windows: int) -> Any:
    return np.random.default_rng(4).random((windows, *LOG_MEL.shape)).astype(np.float16)


@pytest.mark.parametrize("seconds", [0.1, 5.0, 20.0])
def test_the_pages_say_how_long_a_vorbis_file_plays(seconds: float) -> None:
    assert ogg.seconds(encode_ogg(noise(seconds))) == pytest.approx(seconds, abs=1e-3)


def test_the_pages_of_an_opus_file_count_without_its_pre_skip() -> None:
    out = io.BytesIO()
    soundfile.write(out, noise(3.0, 48_000), 48_000, format="OGG", subtype="OPUS")
    assert ogg.seconds(out.getvalue()) == pytest.approx(3.0, abs=1e-3)


def test_what_the_pages_do_not_say_is_unclear() -> None:
    whole = encode_ogg(noise(2.0))
    assert ogg.seconds(whole[: len(whole) // 2]) is None
    assert ogg.seconds(whole + whole) is None
    assert ogg.seconds(b"OggS" + bytes(40)) is None
    assert ogg.seconds(b"") is None


async def test_an_ogg_passes_as_it_is() -> None:
    children, body = Here(), encode_ogg(noise(5.0))
    prepared = await prepare_sound(body, children)
    assert prepared.body == body and prepared.original_type is None
    assert children.asked == 0
    assert lane_of(prepared.seconds) == "live"


async def test_a_minute_goes_to_the_bulk_lane_by_its_own_id() -> None:
    prepared = await prepare_sound(encode_ogg(noise(60.0)), Here())
    event = recorded(prepared, "7b6f1407-dcd7-5b59-937b-0d9c7cdc2016", "a" * 64, "el-silencio", "tour", Told(), None)
    assert isinstance(event, MinuteRecorded)
    assert event.key() == "7b6f1407-dcd7-5b59-937b-0d9c7cdc2016"


async def test_an_hour_is_refused_by_its_pages() -> None:
    children = Here()
    with pytest.raises(Invalid) as refused:
        await prepare_sound(encode_ogg(np.zeros(SAMPLE_RATE * 600, np.float32)), children)
    assert refused.value.reason == Reason.TOO_LONG
    assert children.asked == 0


@pytest.mark.parametrize(("kind", "rate", "channels"), [("WAV", 96_000, 2), ("FLAC", 44_100, 1), ("MP3", 48_000, 2)])
async def test_everything_else_becomes_ogg_and_says_what_it_was(kind: str, rate: int, channels: int) -> None:
    out = io.BytesIO()
    soundfile.write(out, np.stack([noise(2.0, rate)] * channels, axis=1), rate, format=kind)
    prepared = await prepare_sound(out.getvalue(), Here())
    assert prepared.body.startswith(b"OggS")
    assert prepared.original_rate == rate
    assert prepared.original_type == {"WAV": "audio/wav", "FLAC": "audio/flac", "MP3": "audio/mpeg"}[kind]
    assert decode(prepared.body).size / SAMPLE_RATE == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(("body", "reason"), [(b"", Reason.EMPTY), (b"a poem", Reason.NOT_AUDIO)])
async def test_what_is_no_sound_is_refused(body: bytes, reason: Reason) -> None:
    with pytest.raises(Invalid) as refused:
        await prepare_sound(body, Here())
    assert refused.value.reason == reason


def test_log_mels_of_a_deployed_spec_pass() -> None:
    body = npy(mels(4))
    prepared = prepare_log_mels(body, LOG_MEL.fingerprint, SPECS)
    assert prepared.body == body and prepared.content_type == NPY
    assert prepared.seconds == 20.0


@pytest.mark.parametrize(
    ("body", "fingerprint", "reason"),
    [
        (b"", LOG_MEL.fingerprint, Reason.EMPTY),
        (npy(mels(1)), "0123456789abcdef", Reason.UNKNOWN_FEATURES),
        (npy(mels(1)), None, Reason.UNKNOWN_FEATURES),
        (npy(np.array([{}], dtype=object), allow_pickle=True), LOG_MEL.fingerprint, Reason.BAD_FEATURES),
        (npy(mels(13)), LOG_MEL.fingerprint, Reason.BAD_FEATURES),
        (npy(mels(1).astype(np.float32)), LOG_MEL.fingerprint, Reason.BAD_FEATURES),
        (npy(mels(1)[:, :, :-1]), LOG_MEL.fingerprint, Reason.BAD_FEATURES),
        (npy(mels(2))[:-1], LOG_MEL.fingerprint, Reason.BAD_FEATURES),
        (npy(mels(1) * np.float16("nan")), LOG_MEL.fingerprint, Reason.BAD_FEATURES),
        (npy(mels(1) + np.float16(1)), LOG_MEL.fingerprint, Reason.BAD_FEATURES),
        (b"OggS and more", LOG_MEL.fingerprint, Reason.BAD_FEATURES),
    ],
    ids=["empty", "another", "none", "pickle", "13-windows", "float32", "shape", "cut", "nan", "range", "no-npy"],
)
def test_log_mels_that_do_not_hold_are_refused(body: bytes, fingerprint: str | None, reason: Reason) -> None:
    with pytest.raises(Invalid) as refused:
        prepare_log_mels(body, fingerprint, SPECS)
    assert refused.value.reason == reason


class Mortal(Here):
    """Children of whom so many die before one lives."""

    def __init__(self, deaths: int) -> None:
        super().__init__()
        self._deaths = deaths

    async def run(self, work: Any, *args: Any) -> Any:
        self._deaths -= 1
        if self._deaths >= 0:
            raise Invalid(Reason.DECODER_DIED, "The file killed the process that decoded it.")
        return await super().run(work, *args)


async def test_a_decoder_killed_for_anothers_sake_refuses_no_file() -> None:
    """A client that is told 422 drops its clip for ever; three deaths are the file's own."""
    body = io.BytesIO()
    soundfile.write(body, noise(1.0), SAMPLE_RATE, format="WAV")
    assert (await prepare_sound(body.getvalue(), Mortal(2))).original_type == "audio/wav"
    with pytest.raises(Invalid) as refused:
        await prepare_sound(body.getvalue(), Mortal(3))
    assert refused.value.reason is Reason.DECODER_DIED
