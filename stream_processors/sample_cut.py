"""What the sampler's decoding child does: a part of a clip as a file of its own."""

from __future__ import annotations

from soundscape.audio import SAMPLE_RATE, decode, encode_ogg
from soundscape.errors import Invalid, Reason

COMPRESSION = 0.0
"""Samples are learned from: libsndfile's default would move BirdNET's scores by 0.15 (soundscape.audio.to_ogg)."""


def cut(body: bytes, start_s: float, end_s: float) -> tuple[bytes, float]:
    """The sound between two moments as OGG, and where it ends: the clip may end first. Raises Invalid as `soundscape.audio.decode`."""
    first = int(start_s * SAMPLE_RATE)
    sound = decode(body)[first : int(end_s * SAMPLE_RATE)]
    if not sound.size:
        raise Invalid(Reason.TOO_SHORT, f"The clip ends before second {start_s:g}; its answer is of a longer one.")
    return encode_ogg(sound, compression=COMPRESSION), (first + sound.size) / SAMPLE_RATE


def warm_up() -> None:
    """Meet the libraries once."""
    import soundfile  # noqa: F401
    import soxr  # noqa: F401
