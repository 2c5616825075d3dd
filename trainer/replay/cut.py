"""Stretches of a clip's sound as files of their own; runs in a child process, where bytes that kill the decoder kill nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar

from soundscape.audio import MIN_SECONDS, SAMPLE_RATE, TAIL_S, decode, encode_ogg
from soundscape.errors import Invalid
from soundscape.isolation import ChildPool, surely

P = ParamSpec("P")
T = TypeVar("T")

LONGEST_S = 60.0
"""Of a longer stretch its first minute is kept, as of every clip that is learnt from."""
KEPT = 0.0
"""Compression: as little as OGG Vorbis allows is lost, since the sound was compressed once already."""


class Cut(NamedTuple):
    """A stretch as OGG, mono at 32 kHz, and its seconds."""

    body: bytes
    seconds: float


def cut(body: bytes, stretches: list[tuple[float, float | None]]) -> list[Cut | None]:
    """The sound from each start to each end, in seconds (None: to the end of the clip); None where the clip has no sound there.

    A stretch that is the whole clip keeps the clip's own bytes where they are in the right form. Raises Invalid as
    `soundscape.audio.decode`.
    """
    wave = decode(body)
    cuts: list[Cut | None] = []
    for start_s, end_s in stretches:
        first, end = round(start_s * SAMPLE_RATE), wave.size if end_s is None else min(wave.size, round(end_s * SAMPLE_RATE))
        end = min(end, first + int(LONGEST_S * SAMPLE_RATE))
        if end - first < MIN_SECONDS * SAMPLE_RATE:
            cuts.append(None)
            continue
        whole = first == 0 and wave.size - end <= TAIL_S * SAMPLE_RATE and _is_mono_ogg(body)
        cuts.append(Cut(body if whole else encode_ogg(wave[first:end], compression=KEPT), round((end - first) / SAMPLE_RATE, 3)))
    return cuts


async def in_child(pool: ChildPool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Invalid:
    """The work's result from a child process, or why the clip gives none."""
    try:
        return await surely(pool, work, *args, **kwargs)
    except Invalid as error:
        return error


def _is_mono_ogg(body: bytes) -> bool:
    import soundfile

    found = soundfile.info(io.BytesIO(body))
    return bool(found.format == "OGG" and found.samplerate == SAMPLE_RATE and found.channels == 1)


def warm_up() -> None:
    """Meet each library once."""
    import soundfile  # noqa: F401
    import soxr  # noqa: F401
