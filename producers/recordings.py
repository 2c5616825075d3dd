"""What recorders and tours of a simulation record: sound, place and time, and the truth where it is known."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from producers.scenes import ROW_S, Call, PlacedCall, Purpose, labels_of_rows, overlay, scene, seed_of
from soundscape.audio import MAX_MESSAGE_BYTES, SAMPLE_RATE, WINDOW_S, decode, encode_ogg

MINUTE_S: Final = 60.0
LATITUDE, LONGITUDE = 6.76, -74.21
"""El Silencio, degrees north and east."""
APART_DEG = 0.004
"""Between recorders: about 450 m."""
STEP_DEG = 0.00006
"""A guide's way in five seconds: about 7 m."""
TOURS_FROM = 1_000_000
"""Tours are numbered from here in a scene's seed: no recorder's minute is a tour's."""
OVERLAID_CALLS = 4
"""Calls laid over a minute."""
OVERLAID_S = 3.0
"""What is taken of a labelled recording: its loudest stretch of this length, where its animal calls."""
Rows = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Overlay:
    """Labelled recordings whose calls are laid over the soundscapes: (label, file) pairs, and how loud."""

    clips: tuple[tuple[str, Path], ...]
    snr_db: float


@dataclass(frozen=True)
class Take:
    """What one process makes at a time: a recorder's minute, or the clips of a tour cut from one stretch of sound."""

    stream: str
    number: int
    """Of the recorder or tour, from 0."""
    index: int
    """Of the stretch in its recorder or tour, from 0."""
    began: datetime
    due_s: float
    """When the stretch begins, in seconds of the simulation."""
    seed: int
    clips: int = 0
    """Clips of five seconds to cut; 0: a minute, whole."""
    file: Path | None = None
    """Sound of its own; the synthetic forest's without."""
    rows: Rows | None = None
    calls: tuple[PlacedCall, ...] = ()
    overlay: Overlay | None = None

    @property
    def seconds(self) -> float:
        """How long it lasts, at most."""
        return self.clips * WINDOW_S if self.clips else MINUTE_S


@dataclass(frozen=True)
class Recording:
    """One clip, ready to be sent. `rows` are the labels of each 5 s, None where nobody knows them."""

    stem: str
    stream: str
    tour: bool
    recorded_at: datetime
    due_s: float
    seconds: float
    latitude: float
    longitude: float
    rows: Rows | None
    calls: tuple[PlacedCall, ...]
    audio: bytes = field(repr=False)


def render(take: Take) -> list[Recording]:
    """Make the sound of a take: the same take, the same sound (not the same bytes: an OGG's serial number is drawn anew).

    Raises Invalid for a file that is no sound, OSError for one that cannot be read.
    """
    return _cut(take) if take.clips else [_minute(take)]


def _minute(take: Take) -> Recording:
    latitude, longitude = place_of_recorder(take.number)
    if take.file is not None and take.overlay is None:
        audio = take.file.read_bytes()
        seconds = _seconds(audio)
        if len(audio) > MAX_MESSAGE_BYTES or seconds is None:
            wave = decode(audio)
            audio, seconds = encode_ogg(wave), wave.size / SAMPLE_RATE
        rows, calls = take.rows, take.calls
    else:
        wave, rows, calls = _sound(take)
        audio, seconds = encode_ogg(wave), wave.size / SAMPLE_RATE
    stem = take.file.stem if take.file else stem_at(take.stream, take.began)
    due_s = take.due_s + seconds
    return Recording(stem, take.stream, False, take.began, due_s, seconds, latitude, longitude, rows, calls, audio)


def _cut(take: Take) -> list[Recording]:
    """A tour's clips: the guide walks on between them."""
    wave, rows, calls = _sound(take)
    length = int(WINDOW_S * SAMPLE_RATE)
    walked = way(take.seed, take.number, take.index + take.clips)[take.index :]
    found = []
    for n in range(min(take.clips, len(wave) // length)):
        first, moment = n * WINDOW_S, take.began + timedelta(seconds=n * WINDOW_S)
        inside = tuple(_shifted(call, first) for call in calls if call.start < first + WINDOW_S and call.end > first)
        labels = None if rows is None or n >= len(rows) else (rows[n],)
        audio = encode_ogg(wave[n * length : (n + 1) * length])
        due_s = take.due_s + first + WINDOW_S
        stem = stem_at(take.stream, moment)
        found.append(Recording(stem, take.stream, True, moment, due_s, WINDOW_S, *walked[n], labels, inside, audio))
    return found


def _sound(take: Take) -> tuple[NDArray[np.float32], Rows | None, tuple[PlacedCall, ...]]:
    """The stretch, float32 mono at 32 kHz, with its labels by row and its calls."""
    if take.file is None:
        number = take.number + (TOURS_FROM if take.clips else 0)
        hour = take.began.hour + take.began.minute / 60
        wave, placed = scene((take.seed, Purpose.STREAM, number, take.index), take.seconds, hour=hour)
        rows: Rows | None = tuple(labels_of_rows(placed, take.seconds))
        calls = tuple(placed)
    else:
        wave, rows, calls = decode(take.file.read_bytes()), take.rows, take.calls
    if take.overlay is None:
        return wave, rows, calls
    rng = seed_of(take.seed, Purpose.STREAM, take.number, take.index, OVERLAID_CALLS)
    clips = [take.overlay.clips[n] for n in rng.integers(0, len(take.overlay.clips), OVERLAID_CALLS)]
    laid = [Call(label, loudest(decode(path.read_bytes())), f"{label}/{path.name}") for label, path in clips]
    wave, placed = overlay(wave, laid, take.overlay.snr_db, rng)
    added = labels_of_rows(placed, math.floor(wave.size / SAMPLE_RATE / ROW_S + 0.01) * ROW_S)
    before = rows or ((),) * len(added)
    both = tuple(tuple(sorted({*old, *new})) for old, new in zip(before, added, strict=False))
    return wave, both, tuple(sorted((*calls, *placed)))


def loudest(wave: NDArray[np.float32], seconds: float = OVERLAID_S) -> NDArray[np.float32]:
    """The stretch of that length with the most power; a shorter wave whole."""
    length = int(seconds * SAMPLE_RATE)
    if wave.size <= length:
        return wave
    power = np.concatenate(([0.0], np.cumsum(np.square(wave, dtype=np.float64))))
    first = int(np.argmax(power[length:] - power[:-length]))
    return wave[first : first + length]


def stem_at(stream: str, moment: datetime) -> str:
    """SITE_YYYYMMDD_HHMMSS, the file name of a recording without its ending; `moment` in local time."""
    return f"{stream}_{moment:%Y%m%d_%H%M%S}"


def place_of_recorder(number: int) -> tuple[float, float]:
    """Latitude and longitude of a recorder: a grid of four a row."""
    return round(LATITUDE + number // 4 * APART_DEG, 5), round(LONGITUDE + number % 4 * APART_DEG, 5)


def way(seed: int, number: int, clips: int) -> Sequence[tuple[float, float]]:
    """Latitude and longitude of each clip of a tour: a walk from the same gate, the same for the same seed."""
    rng = seed_of(seed, Purpose.STREAM, TOURS_FROM + number, TOURS_FROM)
    heading, latitude, longitude = float(rng.uniform(0, 2 * math.pi)), LATITUDE, LONGITUDE
    walked = []
    for turn in rng.normal(0, 0.4, clips):
        walked.append((round(latitude, 5), round(longitude, 5)))
        heading += float(turn)
        latitude, longitude = latitude + STEP_DEG * math.cos(heading), longitude + STEP_DEG * math.sin(heading)
    return walked


def _shifted(call: PlacedCall, by: float) -> PlacedCall:
    """The part of a call that lies in the five seconds from `by`, in seconds from there."""
    start, end = max(0.0, call.start - by), min(WINDOW_S, call.end - by)
    return PlacedCall(round(start, 3), round(end, 3), call.label, call.snr_db, call.clip)


def _seconds(audio: bytes) -> float | None:
    """How long a file of sound says it lasts; None where it cannot be told without decoding, or is no OGG."""
    import soundfile

    try:
        about = soundfile.info(io.BytesIO(audio))
    except soundfile.LibsndfileError:
        return None
    return float(about.frames / about.samplerate) if about.format == "OGG" else None
