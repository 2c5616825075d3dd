"""Bytes to sound: every accepted kind and rate, and an answer to every bad file."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile

from soundscape import audio, mp3
from soundscape.audio import (
    MAX_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_SECONDS,
    SAMPLE_RATE,
    TAIL_S,
    Float32,
    decode,
    encode_ogg,
    read,
    resample,
    sniff,
    to_ogg,
    window_starts,
)
from soundscape.errors import Invalid, Reason

FORMATS = {"OGG": "audio/ogg", "WAV": "audio/wav", "FLAC": "audio/flac", "MP3": "audio/mpeg"}


def tone(seconds: float, rate: int = SAMPLE_RATE, hertz: float = 1000.0, level: float = 0.3) -> Float32:
    """A sine: mono float32 (samples,)."""
    return (level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def written(wave: Float32, rate: int, kind: str, subtype: str | None = None) -> bytes:
    """A file of that kind, written in blocks."""
    out = io.BytesIO()
    channels = wave.shape[1] if wave.ndim == 2 else 1
    with soundfile.SoundFile(out, "w", rate, channels, format=kind, subtype=subtype) as file:
        for first in range(0, len(wave), 5 * rate):
            file.write(wave[first : first + 5 * rate])
    return out.getvalue()


def refused(body: bytes) -> Reason:
    """Why the bytes are not decoded."""
    with pytest.raises(Invalid) as found:
        decode(body)
    assert found.value.detail.endswith(".")
    return found.value.reason


def loudest(wave: Float32) -> float:
    """Hertz of the strongest frequency of 32 kHz sound."""
    return float(np.abs(np.fft.rfft(wave * np.hanning(wave.size))).argmax() * SAMPLE_RATE / wave.size)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_kind_is_recognised_and_decoded(kind: str) -> None:
    """Two seconds of a tone at 44.1 kHz come out as two seconds at 32 kHz, the same tone at the same level."""
    body = written(tone(2.0, 44_100), 44_100, kind)
    assert sniff(body) == FORMATS[kind]
    wave = decode(body)
    assert (str(wave.dtype), wave.ndim) == ("float32", 1)
    assert wave.size == pytest.approx(2 * SAMPLE_RATE, abs=0.06 * SAMPLE_RATE)  # MP3 pads
    assert loudest(wave) == pytest.approx(1000.0, abs=2)
    assert np.abs(wave[8000:-8000]).max() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000])
def test_every_rate_comes_to_32_khz(rate: int) -> None:
    """Length to the sample, level within a hundredth, and nothing folds back."""
    wave = decode(written(tone(1.0, rate), rate, "FLAC"))
    assert wave.size == pytest.approx(SAMPLE_RATE, abs=1)
    expected = tone(1.0)[: wave.size]
    assert np.abs(wave[2000:-2000] - expected[2000 : wave.size - 2000]).max() < 0.003


def test_what_lies_above_the_new_rate_is_removed() -> None:
    """A tone of 30 kHz at 96 kHz would fold to 2 kHz."""
    wave = decode(written(tone(1.0, 96_000, hertz=30_000), 96_000, "FLAC"))
    assert np.abs(wave[2000:-2000]).max() < 1e-3


def test_channels_are_averaged() -> None:
    """Stereo whose sides cancel is silence; a voice on one side is half as loud."""
    one = tone(0.5)
    assert np.abs(decode(written(np.stack([one, -one], axis=1), SAMPLE_RATE, "WAV", "FLOAT"))).max() == 0.0
    half = decode(written(np.stack([one, 0 * one], axis=1), SAMPLE_RATE, "WAV", "FLOAT"))
    np.testing.assert_allclose(half, one / 2, atol=1e-7)


def test_clipped_silent_and_short_sound_is_sound() -> None:
    """Full scale, digital silence and a tenth of a second are all answered."""
    clipped = np.clip(tone(0.5, level=4.0), -1, 1)
    np.testing.assert_allclose(decode(written(clipped, SAMPLE_RATE, "WAV", "FLOAT")), clipped, atol=1e-7)
    assert not decode(written(np.zeros(SAMPLE_RATE, np.float32), SAMPLE_RATE, "FLAC")).any()
    assert decode(written(tone(0.1), SAMPLE_RATE, "WAV")).size == 3200


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 32_000, 48_000])
def test_an_mp3_of_every_rate_is_known_by_its_first_bytes(rate: int) -> None:
    """MPEG 1, 2 and 2.5 begin differently."""
    body = written(tone(1.0, rate), rate, "MP3")
    assert sniff(body) == "audio/mpeg" and read(body)[1] == rate


@pytest.mark.parametrize("body", [b"hello, forest\n" * 40, b"<html>", b"\0" * 999, b"OGGS", b"PK\x03\x04"])
def test_what_is_no_sound_is_refused(body: bytes) -> None:
    """Whatever its name says."""
    assert refused(body) is Reason.NOT_AUDIO


def test_no_bytes_and_too_many_are_refused() -> None:
    """Before anything is decoded."""
    assert refused(b"") is Reason.EMPTY
    assert refused(b"OggS" + bytes(MAX_BYTES)) is Reason.TOO_LARGE


@pytest.mark.parametrize("kind", ["OGG", "WAV", "FLAC"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_half_a_file_is_refused(kind: str, part: float) -> None:
    """libsndfile gives the first half of most kinds without a word."""
    noise = np.random.default_rng(7).normal(0, 0.1, 3 * SAMPLE_RATE).astype(np.float32)
    body = written(noise, SAMPLE_RATE, kind)
    assert refused(body[: int(len(body) * part)]) in {Reason.TRUNCATED, Reason.NOT_AUDIO}


def test_an_ogg_that_was_cut_between_two_pages_is_refused() -> None:
    """Each page is whole, and none is the last."""
    noise = np.random.default_rng(7).normal(0, 0.1, 30 * SAMPLE_RATE).astype(np.float32)
    body, at, ends = written(noise, SAMPLE_RATE, "OGG"), 0, []
    while at < len(body):
        at += 27 + body[at + 26] + sum(body[at + 27 : at + 27 + body[at + 26]])
        ends.append(at)
    assert len(ends) > 4
    assert decode(body[: ends[-1]]).size
    assert refused(body[: ends[len(ends) // 2]]) is Reason.TRUNCATED


@pytest.mark.parametrize("tag", [b"", b"ID3\x04\0\0" + bytes((0, 0, 3, 1)) + bytes(3 * 128 + 1)], ids=["bare", "tagged"])
@pytest.mark.parametrize("rate", [8000, 22_050, 44_100])
def test_half_an_mp3_that_counts_its_frames_is_refused(rate: int, tag: bytes) -> None:
    """A whole one is taken to the sample, with a tag before it and one after it."""
    noise = np.random.default_rng(7).normal(0, 0.1, (3 * rate, 2)).astype(np.float32)
    body = written(noise, rate, "MP3")
    assert read(tag + body + b"TAG" + bytes(125))[0].size == 3 * rate
    for part in (0.1, 0.5, 0.9):
        assert refused(tag + body[: int(len(body) * part)]) in {Reason.TRUNCATED, Reason.NOT_AUDIO}


@pytest.mark.parametrize("count", ["no header", "no count"])
def test_an_mp3_that_does_not_count_its_frames_is_taken_as_it_is(count: str) -> None:
    """What libsndfile says of such a file's length is an estimate by its bytes, those of a tag at its end too: it refuses nothing."""
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", SAMPLE_RATE, 1, format="MP3", bitrate_mode="CONSTANT", compression_level=0.9) as file:
        file.write(tone(5.0))
    body = bytearray(out.getvalue())
    at = body.index(b"Info")
    if count == "no header":
        body[at : at + 4] = bytes(4)
    else:
        body[at + 7] &= ~1
    with soundfile.SoundFile(io.BytesIO(body + bytes(1000))) as file:
        assert file.frames > 5.1 * SAMPLE_RATE
    assert decode(bytes(body) + bytes(1000)).size == pytest.approx(5 * SAMPLE_RATE, abs=0.1 * SAMPLE_RATE)
    assert decode(bytes(body[: len(body) // 2])).size == pytest.approx(2.5 * SAMPLE_RATE, abs=0.1 * SAMPLE_RATE)


def uncounted(wave: Float32, rate: int) -> bytes:
    """An MP3 of variable bitrate that does not count its frames: the head that would is an empty frame."""
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", rate, wave.shape[1], format="MP3", bitrate_mode="VARIABLE", compression_level=0.5) as file:
        file.write(wave)
    body = out.getvalue()
    assert body.count(b"Xing") == 1
    return body.replace(b"Xing", bytes(4))


@pytest.mark.parametrize("tag", [b"", b"ID3\x04\0\0" + bytes((0, 0, 3, 1)) + bytes(3 * 128 + 1)], ids=["bare", "tagged"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000])
def test_an_mp3_of_variable_bitrate_is_decoded_whole_without_a_count(rate: int, channels: int, tag: bytes) -> None:
    """libsndfile alone ends where the first frame's bitrate would have it end: here, before or soon after the noise begins."""
    noise = np.random.default_rng(7).normal(0, 0.1, (10 * rate, channels)).astype(np.float32)
    noise[: 5 * rate] = 0
    body = uncounted(noise, rate)
    with soundfile.SoundFile(io.BytesIO(body)) as file:
        assert file.read(dtype="float32").shape[0] < 8 * rate
    wave, found = read(tag + body + b"TAG" + bytes(125))
    assert found == rate
    assert wave.size == pytest.approx(10 * rate, abs=0.2 * rate)  # the encoder pads some frames
    assert np.abs(wave[: int(4.9 * rate)]).max() < 1e-3
    for second in range(5, 10):
        heard = wave[second * rate + rate // 5 : (second + 1) * rate]
        assert heard.std() == pytest.approx(0.1 / channels**0.5, rel=0.25)


def test_an_mp3_that_is_too_long_is_refused_without_a_count() -> None:
    """By its samples, and not by an estimate."""
    assert refused(uncounted(np.zeros((int(MAX_SECONDS + 2) * 8000, 1), np.float32), 8000)) is Reason.TOO_LONG


def test_the_head_that_is_added_changes_no_sample() -> None:
    """Of a constant bitrate, which libsndfile reads whole by itself; without the 529 of its decoder's delay, as where there is a count."""
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", 44_100, 1, format="MP3", bitrate_mode="CONSTANT", compression_level=0.5) as file:
        file.write(tone(3.0, 44_100))
    body = out.getvalue().replace(b"Info", bytes(4))
    with soundfile.SoundFile(io.BytesIO(body)) as file:
        np.testing.assert_array_equal(read(body)[0], file.read(dtype="float32")[529:])


@pytest.mark.parametrize("head", ["ff", "fffb", "fffbf0c4", "fffb00c4", "fffb9cc4", "ffeb90c4", "fff590c4"])
def test_a_first_frame_that_cannot_be_counted_is_left_as_it_is(head: str) -> None:
    """Cut short, a free or forbidden bitrate, a rate or version that is none, another layer."""
    body = bytes.fromhex(head)
    assert mp3.with_count(body, 1) == body


def test_a_tag_that_says_too_much_is_no_crash() -> None:
    """An ID3 whose size reaches beyond the file, or that ends within its own head."""
    for body in (b"ID3", b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(100), b"\xff\xfb\x90\x64Xing"):
        assert refused(body) is Reason.NOT_AUDIO


def test_too_short_sound_is_refused() -> None:
    """No sample, and a fiftieth of a second."""
    assert refused(written(np.zeros(0, np.float32), SAMPLE_RATE, "WAV")) is Reason.TOO_SHORT
    assert refused(written(tone(0.02), SAMPLE_RATE, "WAV")) is Reason.TOO_SHORT


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_samples_that_are_no_numbers_are_refused(bad: float) -> None:
    """One is enough: a transform would spread it over the whole window."""
    wave = tone(0.5)
    wave[777] = bad
    assert refused(written(wave, SAMPLE_RATE, "WAV", "FLOAT")) is Reason.NOT_FINITE


def test_a_small_file_that_plays_for_long_is_refused() -> None:
    """Ten minutes of silence are a few kilobytes of OGG."""
    body = written(np.zeros(600 * 8000, np.float32), 8000, "OGG")
    assert len(body) * 1000 < 600 * SAMPLE_RATE * 4
    assert refused(body) is Reason.TOO_LONG


def test_the_longest_clip_is_accepted() -> None:
    """Three minutes exactly, and a moment of an encoder's padding."""
    assert read(written(np.zeros(int(MAX_SECONDS * 8000) + 100, np.float32), 8000, "OGG"))[0].size >= MAX_SECONDS * 8000
    assert refused(written(np.zeros(int(MAX_SECONDS * 8000) + 8000, np.float32), 8000, "FLAC")) is Reason.TOO_LONG


def test_a_header_that_does_not_tell_the_length_is_not_believed() -> None:
    """FLAC may leave the number of samples open (RFC 9639, 8.2: 36 bits of STREAMINFO): then the samples are counted."""
    body = bytearray(written(np.zeros(200 * 8000, np.float32), 8000, "FLAC"))
    assert body[4] & 0x7F == 0  # STREAMINFO comes first
    body[21] &= 0xF0
    body[22:26] = bytes(4)
    assert refused(bytes(body)) in {Reason.TOO_LONG, Reason.NOT_AUDIO, Reason.TRUNCATED}


def test_a_stream_of_unknown_length_is_accepted() -> None:
    """A recorder that writes while it records leaves 0xFFFFFFFF as the length of its WAV."""
    body = bytearray(written(tone(0.5), SAMPLE_RATE, "WAV"))
    at = body.index(b"data") + 4
    body[at : at + 4] = struct.pack("<I", 0xFFFFFFFF)
    assert decode(bytes(body)).size == SAMPLE_RATE // 2


def test_a_rate_that_no_microphone_has_is_refused() -> None:
    """A header that says 1 Hz would become hours of sound."""
    body = bytearray(written(tone(0.5), SAMPLE_RATE, "WAV"))
    body[24:28] = struct.pack("<I", 1)
    assert refused(bytes(body)) is Reason.NOT_AUDIO


def test_ogg_of_ours_is_mono_at_32_khz_and_fits_a_message() -> None:
    """Three minutes of noise at full scale, the worst case of an encoder, or a refusal."""
    body, rate, seconds = to_ogg(written(np.stack([tone(7.0, 48_000)] * 2, axis=1), 48_000, "WAV"))
    with soundfile.SoundFile(io.BytesIO(body)) as file:
        assert (file.format, file.samplerate, file.channels) == ("OGG", SAMPLE_RATE, 1)
    assert (rate, seconds) == (48_000, 7.0)
    assert loudest(decode(body)) == pytest.approx(1000.0, abs=1)

    noise = np.random.default_rng(7).uniform(-1, 1, int(MAX_SECONDS * SAMPLE_RATE)).astype(np.float32)
    try:
        assert len(to_ogg(written(noise, SAMPLE_RATE, "WAV"))[0]) <= MAX_MESSAGE_BYTES
    except Invalid as error:
        assert error.reason is Reason.TOO_LARGE


def test_encoding_limits_what_exceeds_full_scale() -> None:
    """Vorbis would wrap nothing, but decoders differ beyond 1."""
    assert np.abs(decode(encode_ogg(tone(1.0, level=8.0)))).max() < 1.5


def test_resampling_nothing_gives_nothing() -> None:
    """An empty wave has no rate."""
    assert resample(np.zeros(0, np.float32), 44_100, SAMPLE_RATE).size == 0


@pytest.mark.parametrize(
    ("seconds", "windows"),
    [(0.1, 1), (5.0, 1), (5.0 + TAIL_S, 1), (5.3, 2), (10.0, 2), (59.9, 12), (60.0, 12), (60.02, 12), (180.0, 36)],
)
def test_windows_of_a_clip(seconds: float, windows: int) -> None:
    """Each 5 s, at least one; what an encoder pads opens none."""
    starts = window_starts(round(seconds * SAMPLE_RATE))
    assert starts == [5.0 * n for n in range(windows)]


def test_recordings_one_after_the_other_in_one_ogg_are_refused() -> None:
    """libsndfile decodes the first and says nothing of the rest; one alone is taken."""
    first, second = encode_ogg(np.full(SAMPLE_RATE, 0.1, np.float32)), encode_ogg(np.full(SAMPLE_RATE, 0.2, np.float32))
    assert decode(first).size == SAMPLE_RATE
    with pytest.raises(Invalid, match="one after the other") as refused:
        decode(first + second)
    assert refused.value.reason == Reason.NOT_AUDIO


def test_more_samples_than_a_decoder_may_spend_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a megabyte of silence in 8 channels at 384 kHz held a decoder for 10 s, and a guide's clip behind it."""
    monkeypatch.setattr(audio, "MAX_SAMPLES", 8 * 384_000)
    body = io.BytesIO()
    soundfile.write(body, np.zeros((384_000 + 1, 8), np.float32), 384_000, format="FLAC", subtype="PCM_16")
    with pytest.raises(Invalid, match="fewer channels") as error:
        decode(body.getvalue())
    assert error.value.reason is Reason.TOO_LARGE
