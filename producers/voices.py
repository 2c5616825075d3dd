"""How the invented species sound: one call at a time, dry and close, from a pitch, a tempo and chance.

The voices come in pairs that put the same energy into the same bands and differ only in time (rising and falling,
faster and slower, swelling and fading), and every voice may sit anywhere in a band that others share. So nothing
less than the shape of a call tells who called.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from producers.notes import HARSH_OCTAVES, RATE, band, hump, lay, samples, throat, whistle

Voice = Callable[[np.random.Generator, float, float], NDArray[np.float32]]
"""(rng, pitch in Hz, tempo around 1) -> one call, float32 mono at 32 kHz, peak near 1."""


def _sweeps(rng: np.random.Generator, pitch: float, tempo: float, sign: int) -> NDArray[np.float32]:
    octave = rng.uniform(0.45, 0.9) * sign
    notes, starts, at = [], [], 0.0
    for _ in range(rng.integers(2, 6)):
        length = rng.uniform(0.25, 0.4) / tempo
        notes.append(whistle(rng, pitch * rng.uniform(0.97, 1.03) * np.exp2(octave * np.linspace(-0.5, 0.5, samples(length)))))
        starts.append(at)
        at += length + rng.uniform(0.06, 0.16) / tempo
    return lay(notes, starts)


def rising_whistles(rng: np.random.Generator, pitch: float, tempo: float) -> NDArray[np.float32]:
    """Two to five upward sweeps."""
    return _sweeps(rng, pitch, tempo, 1)


def falling_whistles(rng: np.random.Generator, pitch: float, tempo: float) -> NDArray[np.float32]:
    """Two to five downward sweeps."""
    return _sweeps(rng, pitch, tempo, -1)


def _trill(rng: np.random.Generator, pitch: float, tempo: float, slow_first: bool) -> NDArray[np.float32]:
    gaps = np.geomspace(rng.uniform(0.26, 0.34), rng.uniform(0.06, 0.08), int(rng.integers(10, 17))) / tempo
    gaps = gaps if slow_first else gaps[::-1]
    notes, starts, at = [], [], 0.0
    for gap in gaps:
        arch = np.sin(np.pi * np.linspace(0, 1, samples(0.6 * min(gap, 0.1))))
        notes.append(whistle(rng, pitch * np.exp2(0.25 * arch), 0.3))
        starts.append(at)
        at += gap
    return lay(notes, starts)


def quickening_trill(rng: np.random.Generator, pitch: float, tempo: float) -> NDArray[np.float32]:
    """A trill whose notes come faster and faster, like a dropped ball."""
    return _trill(rng, pitch, tempo, slow_first=True)


def slowing_trill(rng: np.random.Generator, pitch: float, tempo: float) -> NDArray[np.float32]:
    """A trill that begins fast and runs down."""
    return _trill(rng, pitch, tempo, slow_first=False)


def _pairs(
    rng: np.random.Generator, pitch: float, tempo: float, sign: int, lengths_s: tuple[float, float]
) -> NDArray[np.float32]:
    octave = rng.uniform(0.5, 0.9) * sign
    notes, starts, at = [], [], 0.0
    for _ in range(rng.integers(2, 5)):
        for side, length_s in zip((-0.5, 0.5), lengths_s, strict=True):
            length = length_s * rng.uniform(0.85, 1.15) / tempo
            notes.append(whistle(rng, np.full(samples(length), pitch * 2 ** (side * octave)), 0.15))
            starts.append(at)
            at += length + 0.02
        at += rng.uniform(0.25, 0.4) / tempo
    return lay(notes, starts)


def high_low(rng: np.random.Generator, pitch: float, tempo: float) -> NDArray[np.float32]:
    """Pairs of flat notes, the second lower, like a cuckoo."""
    return _pairs(rng, pitch, tempo, -1, (0.22, 0.22))


def low_high(rng: np.random.Generator, pitch: float, tempo: float) -> NDArray[np.float32]:
    """Pairs of flat notes, the second higher and longer, like a coquí."""
    return _pairs(rng, pitch, tempo, 1, (0.12, 0.32))


def vibrato(rng: np.random.Generator, pitch: float, tempo: float) -> NDArray[np.float32]:
    """One or two long notes that waver."""
    notes, starts, at = [], [], 0.0
    for _ in range(rng.integers(1, 3)):
        length = rng.uniform(0.9, 1.5) / tempo
        seconds = np.arange(samples(length)) / RATE
        notes.append(whistle(rng, pitch * np.exp2(rng.uniform(0.2, 0.4) * np.sin(2 * np.pi * 7 * tempo * seconds)), 0.1))
        starts.append(at)
        at += length + rng.uniform(0.1, 0.3)
    return lay(notes, starts)


def _pulses(
    rng: np.random.Generator, pitch: float, rate_hz: float, length_s: float, *, fall: float = 0.0, chord: float = 0.0
) -> NDArray[np.float32]:
    """Even pulses that fall by `fall` octaves each, or sound two tones `chord` octaves apart."""
    count = max(3, round(length_s * rate_hz))
    n = samples(0.55 / rate_hz)
    contour = pitch * np.exp2(np.linspace(fall / 2, -fall / 2, n))
    tones = (-chord / 2, chord / 2) if chord else (0.0,)
    notes = [np.sum([whistle(rng, contour * 2**tone, 0.4) for tone in tones], axis=0) / len(tones) for _ in range(count)]
    return lay(notes, [index / rate_hz for index in range(count)], rng.uniform(0.8, 1.0, count))


def slow_pulses(rng: np.random.Generator, pitch: float, tempo: float) -> NDArray[np.float32]:
    """A frog's falling plops, about four a second."""
    return _pulses(rng, pitch, 4.2 * tempo, rng.uniform(1.4, 2.6), fall=0.5)


def fast_pulses(rng: np.random.Generator, pitch: float, tempo: float) -> NDArray[np.float32]:
    """A frog's two-toned rattle, about thirteen pulses a second."""
    return _pulses(rng, pitch, 13 * tempo, rng.uniform(1.2, 2.4), chord=0.6)


def chirps(rng: np.random.Generator, pitch: float, tempo: float) -> NDArray[np.float32]:
    """A cricket: chirps of four or five fast pulses, three chirps in two seconds."""
    rate_hz = 15 * tempo
    groups = [_pulses(rng, pitch, rate_hz, rng.integers(4, 6) / rate_hz).astype(np.float64) for _ in range(rng.integers(2, 5))]
    return lay(groups, [index * 0.65 / tempo for index in range(len(groups))])


def _rasps(rng: np.random.Generator, pitch: float, tempo: float, swelling: bool) -> NDArray[np.float32]:
    width = rng.uniform(*HARSH_OCTAVES)
    notes, starts, at = [], [], 0.0
    for _ in range(rng.integers(3, 7)):
        length = rng.uniform(0.3, 0.5) / tempo
        noise = band(rng, samples(length), pitch, width)
        shape = np.linspace(0.02, 1.0, len(noise)) ** 2
        notes.append(0.35 * noise * (shape if swelling else shape[::-1]))
        starts.append(at)
        at += length + rng.uniform(0.03, 0.1)
    return lay(notes, starts)


def swelling_rasps(rng: np.random.Generator, pitch: float, tempo: float) -> NDArray[np.float32]:
    """Stridulation that swells and breaks off."""
    return _rasps(rng, pitch, tempo, swelling=True)


def fading_rasps(rng: np.random.Generator, pitch: float, tempo: float) -> NDArray[np.float32]:
    """Stridulation that bursts and fades."""
    return _rasps(rng, pitch, tempo, swelling=False)


def roar(rng: np.random.Generator, pitch: float, tempo: float) -> NDArray[np.float32]:
    """A long rough roar that swells and ebbs."""
    n = samples(rng.uniform(1.1, 2.0) / tempo)
    arch = np.sin(np.pi * np.linspace(0, 1, n))
    sound = throat(rng, rng.uniform(140, 260) * np.exp2(0.3 * arch), pitch, rng.uniform(*HARSH_OCTAVES))
    return np.asarray(sound * (0.05 + 0.95 * arch**2), dtype=np.float32)


def whinny(rng: np.random.Generator, pitch: float, tempo: float) -> NDArray[np.float32]:
    """Four to eight short harsh barks in a row."""
    notes, starts, at = [], [], 0.0
    base, width = rng.uniform(140, 260), rng.uniform(*HARSH_OCTAVES)
    for _ in range(rng.integers(4, 9)):
        n = samples(rng.uniform(0.12, 0.18) / tempo)
        notes.append(throat(rng, base * np.exp2(0.3 * np.sin(np.pi * np.linspace(0, 1, n))), pitch, width) * hump(n, 0.3))
        starts.append(at)
        at += rng.uniform(0.28, 0.36) / tempo
    return lay(notes, starts)
