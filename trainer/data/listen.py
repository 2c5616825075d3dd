"""One sound file to mel power on disk; runs in a child process, where a file that kills the decoder kills nothing else."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from soundscape.audio import MIN_SECONDS, SAMPLE_RATE, decode, resample
from soundscape.errors import Invalid, Reason
from soundscape.features import LOG_MEL, SILENCE_POWER, mel_power
from trainer.data.store import write_whole

LONGEST_S = 60.0
"""Of a longer clip its first minute is learnt from: focal recordings name their species early, and disk is finite."""


@dataclass(frozen=True)
class Heard:
    """What was found in a file."""

    seconds: float
    """Of the whole file, however much of it is taken."""
    digest: str
    """Hex SHA-256 of the file."""
    cut: bool
    """Whether the sound was longer than LONGEST_S."""
    sound: str
    """Hex SHA-256 of what is taken of it, as 16-bit numbers at 32 kHz: the same for the same sound in another container."""

    @property
    def taken(self) -> float:
        """Seconds that are learnt from."""
        return min(self.seconds, LONGEST_S)


class Silent(Invalid):
    """There is nothing in it but zeros."""


def listen(source: Path, target: Path) -> Heard:
    """Write a file's mel power in dB (float16 (n_mels, frames), LOG_MEL's settings) to `target`, whole or not at all.

    Raises Invalid with the reason if there is no sound to learn from (also: nothing in it reaches SILENCE_POWER).
    """
    try:
        body = source.read_bytes()
    except OSError as error:
        raise Invalid(Reason.BAD_REQUEST, f"The file cannot be read ({error.strerror}).") from error
    wave, seconds = _decode(body)
    wave = wave[: int(LONGEST_S * SAMPLE_RATE)]
    power = mel_power(wave, LOG_MEL)
    if power.max() <= SILENCE_POWER:
        raise Silent(Reason.NOT_AUDIO, "The file is digital silence.")
    decibels = (10.0 * np.log10(np.maximum(power, SILENCE_POWER))).astype(np.float16)
    write_whole(target, lambda file: np.save(file, decibels))
    sound = hashlib.sha256(np.round(np.clip(wave, -1.0, 1.0) * 32767).astype("<i2").tobytes()).hexdigest()
    return Heard(round(seconds, 3), hashlib.sha256(body).hexdigest(), seconds > LONGEST_S + 0.5, sound)


def _decode(body: bytes) -> tuple[np.ndarray[tuple[int], np.dtype[np.float32]], float]:
    """Mono float32 at 32 kHz and its seconds; of a file too long for a clip only the beginning is decoded."""
    try:
        with soundfile.SoundFile(io.BytesIO(body)) as file:
            seconds, rate = file.frames / file.samplerate, file.samplerate
            if LONGEST_S + 1 < seconds < 1e6:
                wave = file.read(int((LONGEST_S + 0.1) * rate), dtype="float32", always_2d=True).mean(axis=1)
                if not np.isfinite(wave).all():
                    raise Invalid(Reason.NOT_FINITE, "The sound has NaN or infinite samples.")
                return resample(wave.astype(np.float32), rate, SAMPLE_RATE), seconds
    except soundfile.LibsndfileError:
        pass  # `decode` says what is wrong with it
    sound = decode(body)
    if sound.size < MIN_SECONDS * SAMPLE_RATE:
        raise Invalid(Reason.TOO_SHORT, f"The clip lasts {sound.size / SAMPLE_RATE:.3f} s.")
    return sound, sound.size / SAMPLE_RATE
