"""Bytes to sound: 32 kHz mono float32, bounded before anything is decoded whole; and a clip's windows.

Call `decode` in a child process (soundscape.isolation): libsndfile meets bytes from strangers here.
"""

from __future__ import annotations

import hashlib
import io

import numpy as np
import numpy.typing as npt

from soundscape import mp3
from soundscape.errors import Invalid, Reason

Float32 = npt.NDArray[np.float32]

SAMPLE_RATE = 32_000
"""Hz; BirdCLEF's rate, and what everything downstream hears."""
WINDOW_S = 5.0
"""Seconds of one window, as the seed asks."""
MIN_SECONDS = 0.05
"""Shorter sound holds no call; 0.1 s is answered."""
MAX_SECONDS = 180.0
"""Longest clip, decoded: 36 windows."""
MAX_BYTES = 64_000_000
"""Largest upload in bytes: 3 minutes of 24-bit 48 kHz stereo WAV are 52 MB."""
RATES = (4_000, 384_000)
"""Least and greatest rate of a file, in Hz: a header that says 1 Hz would become hours of sound."""
MAX_CHANNELS = 16
"""Most channels of a file; they are averaged."""
MP3_RATE = 48_000
"""Greatest rate of an MP3 in Hz (ISO 11172-3)."""
LOUDEST = 1e6
"""Samples lie between -1 and 1; some writers of floats leave 16-bit numbers as they are. Beyond is no sound, and filters overflow."""
MAX_SAMPLES = int(MAX_SECONDS * 384_000)
"""Most samples of a file over all its channels: three minutes of a bat detector at 384 kHz, and about 2 s of a decoder's time."""
MAX_MESSAGE_BYTES = 1_900_000
"""Largest body on `clips` and `recordings`; beyond it the sound is encoded again."""
TAIL_S = 0.25
"""A remainder up to this long opens no window of its own: encoders pad a minute by some milliseconds."""
_BLOCK_S = 5
"""Seconds decoded or encoded at a time: one huge Vorbis write is known to crash libsndfile."""

MAGIC = {
    "audio/ogg": (b"OggS",),
    "audio/wav": (b"RIFF", b"RF64"),
    "audio/flac": (b"fLaC",),
    "audio/mpeg": (b"ID3", b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2", b"\xff\xe3", b"\xff\xe2"),
}
"""First bytes of each accepted content type."""

_CUT_OFF = "The file ends in the middle of its sound; send it whole."


def sniff(body: bytes) -> str:
    """The content type that the first bytes say. Raises Invalid (empty, not-audio)."""
    if not body:
        raise Invalid(Reason.EMPTY, "The clip has no bytes; send the recording as the body.")
    for kind, magics in MAGIC.items():
        if body.startswith(magics):
            return kind
    raise Invalid(Reason.NOT_AUDIO, "The bytes are not OGG, WAV, FLAC or MP3 sound; send one of these.")


def decode(body: bytes) -> Float32:
    """Sound of a file: mono float32 (samples,) at 32 kHz.

    Raises Invalid: empty, not-audio, truncated, too-short, too-long (before it is decoded whole), too-large, not-finite.
    """
    wave, rate = read(body)
    sound = resample(wave, rate, SAMPLE_RATE)
    if sound.size < MIN_SECONDS * SAMPLE_RATE:
        raise Invalid(Reason.TOO_SHORT, f"The clip has {sound.size / SAMPLE_RATE:.3f} s of sound; send at least {MIN_SECONDS} s.")
    return sound


def read(body: bytes) -> tuple[Float32, int]:
    """Sound of a file at its own rate: (mono float32 (samples,), Hz). Channels are averaged. Raises Invalid as `decode`.

    Half a file is `truncated`, or `not-audio` where nothing of it decodes. An MP3 without a Xing or Info header never says how much of it
    there is: all that is there is read, and half of one is taken for a shorter one.
    """
    import soundfile

    if len(body) > MAX_BYTES:
        raise Invalid(Reason.TOO_LARGE, f"The clip has {len(body)} bytes; at most {MAX_BYTES} are accepted.")
    kind = sniff(body)
    if _is_cut_off(body, kind):
        raise Invalid(Reason.TRUNCATED, _CUT_OFF)
    if kind == "audio/ogg" and _is_chained(body):
        raise Invalid(Reason.NOT_AUDIO, "The OGG holds several recordings one after the other; send each by itself.")
    tells = kind != "audio/mpeg" or mp3.counts_frames(body)
    whole = body if tells else mp3.with_count(body, int(2 * MAX_SECONDS * MP3_RATE))
    try:
        with soundfile.SoundFile(io.BytesIO(whole)) as file:
            rate, limit = file.samplerate, int(MAX_SECONDS * file.samplerate * 1.002)
            if not RATES[0] <= rate <= RATES[1] or file.channels > MAX_CHANNELS:
                limits = f"{RATES[0] // 1000} to {RATES[1] // 1000} kHz, at most {MAX_CHANNELS} channels"
                what = f"A rate of {rate} Hz with {file.channels} channels is not accepted; send {limits}."
                raise Invalid(Reason.NOT_AUDIO, what)
            if tells and file.frames > limit and file.frames < 2**62:  # a header that does not know says 2**63 - 1
                raise Invalid(Reason.TOO_LONG, f"The clip lasts {file.frames / rate:.0f} s; send at most {MAX_SECONDS:.0f} s.")
            if file.frames < 2**62 and tells:
                _bound(file.frames * file.channels)
            blocks, total = [], 0
            while len(block := file.read(_BLOCK_S * rate, dtype="float32", always_2d=True)):
                blocks.append(block[:, 0] if file.channels == 1 else block.mean(axis=1, dtype=np.float32))
                total += len(block)
                _bound(total * file.channels)
                if total > limit:  # the header lied
                    raise Invalid(Reason.TOO_LONG, f"The clip lasts longer than {MAX_SECONDS:.0f} s; send at most that.")
            if kind == "audio/mpeg" and tells and total < file.frames - mp3.FRAME:
                raise Invalid(Reason.TRUNCATED, _CUT_OFF)
    except soundfile.LibsndfileError as error:
        raise Invalid(Reason.NOT_AUDIO, f"The {kind} cannot be decoded ({error.error_string.strip('. ')}); send it again.") from error
    if not blocks:
        raise Invalid(Reason.TOO_SHORT, f"The clip has no sound in it; send at least {MIN_SECONDS} s.")
    wave = np.concatenate(blocks)
    if not (np.abs(wave) < LOUDEST).all():
        raise Invalid(Reason.NOT_FINITE, f"The sound has samples that are NaN, infinite or beyond {LOUDEST:.0e}; export it again.")
    return wave, rate


def resample(wave: Float32, rate: int, to: int) -> Float32:
    """The same sound at another rate, float32 (samples,), by soxr at HQ (9.6 times as fast as kaiser_fast)."""
    import soxr

    if rate == to or not wave.size:
        return wave
    out: Float32 = soxr.resample(wave, rate, to, quality="HQ").astype(np.float32, copy=False)
    return out


def encode_ogg(wave: Float32, rate: int = SAMPLE_RATE, compression: float = 0.6) -> bytes:
    """The sound as OGG Vorbis at 32 kHz mono, written in blocks of a few seconds.

    `wave` is mono float32 (samples,) at `rate`; `compression` 0 keeps most (about 210 kbit/s), 0.6 is libsndfile's default (70).
    """
    import soundfile

    sound, out = resample(wave, rate, SAMPLE_RATE), io.BytesIO()
    with soundfile.SoundFile(out, "w", SAMPLE_RATE, 1, format="OGG", subtype="VORBIS", compression_level=compression) as file:
        for first in range(0, sound.size, _BLOCK_S * SAMPLE_RATE):
            file.write(np.clip(sound[first : first + _BLOCK_S * SAMPLE_RATE], -1.0, 1.0))
    return out.getvalue()


def to_ogg(body: bytes) -> tuple[bytes, int, float]:
    """Any accepted file as mono 32 kHz OGG that fits a message: (bytes, the original's rate in Hz, seconds). Raises Invalid.

    As little is lost as the limit allows: BirdNET's scores move by 0.15 at libsndfile's default and by 0.02 at compression 0.
    """
    wave, rate = read(body)
    for compression in (0.0, 0.6, 0.9):
        ogg = encode_ogg(wave, rate, compression)
        if len(ogg) <= MAX_MESSAGE_BYTES:
            return ogg, rate, wave.size / rate
    raise Invalid(Reason.TOO_LARGE, f"As OGG the clip has {len(ogg)} bytes; at most {MAX_MESSAGE_BYTES} fit; send less sound.")


def window_starts(samples: int) -> list[float]:
    """Start of every window in seconds, for a clip of `samples` at 32 kHz: each 5 s, at least one."""
    whole, rest = divmod(samples, int(WINDOW_S * SAMPLE_RATE))
    return [n * WINDOW_S for n in range(max(1, whole + (rest > TAIL_S * SAMPLE_RATE)))]


def sha256(body: bytes) -> str:
    """Hex SHA-256 of the bytes."""
    return hashlib.sha256(body).hexdigest()


def _bound(samples: int) -> None:
    """Raise Invalid (too-large) for more samples than a decoder may spend on one file: others wait behind it."""
    if samples > MAX_SAMPLES:
        cure = f"send at most {MAX_SAMPLES // 1_000_000} million: fewer channels, a lower rate, or less of it"
        raise Invalid(Reason.TOO_LARGE, f"The file holds {samples // 1_000_000} million samples over all its channels; {cure}.")


def _is_chained(body: bytes) -> bool:
    """Whether a stream begins after another has begun to play (libsndfile decodes the first and says nothing of the rest)."""
    at, plays = 0, False
    while body[at : at + 4] == b"OggS":
        begins = bool(body[at + 5] & 2)  # RFC 3533: flag of a stream's first page
        if begins and plays:
            return True
        plays |= not begins
        at += 27 + body[at + 26] + sum(body[at + 27 : at + 27 + body[at + 26]])
    return False


def _is_cut_off(body: bytes, kind: str) -> bool:
    """Whether the container says that more should follow: libsndfile decodes half a file without a word."""
    if kind == "audio/wav" and body[8:12] == b"WAVE":
        at = 12
        while at + 8 <= len(body):
            size = int.from_bytes(body[at + 4 : at + 8], "little")
            if body[at : at + 4] == b"data":
                return size < 0xFFFFFFFF and at + 8 + size > len(body)
            at += 8 + size + size % 2
        return True
    if kind == "audio/ogg":  # RFC 3533: a page is 27 bytes, a table of segment sizes, and their sum of bytes
        at, ended = 0, False
        while body[at : at + 4] == b"OggS":
            if at + 27 > len(body) or at + 27 + body[at + 26] > len(body):
                return True
            ended = bool(body[at + 5] & 4)  # the flag of a stream's last page
            at += 27 + body[at + 26] + sum(body[at + 27 : at + 27 + body[at + 26]])
        return at > len(body) or not ended
    return False
