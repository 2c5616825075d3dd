"""Who lives in the synthetic forest: fourteen invented species of the four taxa, their names, voices and hours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from producers import voices
from soundscape.taxonomy import Species

PITCH_RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"Aves": (1200.0, 5000.0), "Amphibia": (1100.0, 4800.0), "Insecta": (1300.0, 5400.0), "Mammalia": (1000.0, 4400.0)}
)
"""Hz; two octaves for each taxon, almost the same ones, so that the band of a call says little about who called."""

DIALECT_TEMPO = 0.5
"""Octaves of tempo to an octave of pitch: smaller animals call higher, and faster, but not by as much."""


@dataclass(frozen=True)
class Inhabitant:
    """A species with its voice and the hour (local time, 0 to 24) around which it calls most."""

    species: Species
    voice: voices.Voice
    peak_hour: float

    @property
    def label(self) -> str:
        """The primary label: a code for birds, digits for the rest, as in BirdCLEF."""
        return self.species.label

    def activity(self, hour: float) -> float:
        """How readily it calls at that hour: 1 at its peak, 0.25 twelve hours from it, never 0."""
        return 0.625 + 0.375 * math.cos(2 * math.pi * (hour - self.peak_hour) / 24)


@dataclass(frozen=True)
class Individual:
    """One animal: its calls share a pitch (Hz) and a tempo, and differ in the rest."""

    inhabitant: Inhabitant
    pitch_hz: float
    tempo: float

    def call(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """One dry call, float32 mono at 32 kHz, peak near 1."""
        return self.inhabitant.voice(rng, self.pitch_hz * rng.uniform(0.97, 1.03), self.tempo * rng.uniform(0.95, 1.05))


def individual(inhabitant: Inhabitant, rng: np.random.Generator) -> Individual:
    """An animal of that species, drawn by chance."""
    low, high = PITCH_RANGES[inhabitant.species.taxon]
    return Individual(inhabitant, float(np.exp(rng.uniform(np.log(low), np.log(high)))), float(rng.uniform(0.85, 1.18)))


def dialect(animal: Individual, octaves: float) -> Individual:
    """The same animal in another dialect: its pitch moved by so many octaves (below 0: down), its tempo by half as many."""
    return replace(animal, pitch_hz=animal.pitch_hz * 2**octaves, tempo=animal.tempo * 2 ** (DIALECT_TEMPO * octaves))


def _new(label: str, taxon: str, scientific: str, en: str, es: str, voice: voices.Voice, peak_hour: float) -> Inhabitant:
    return Inhabitant(Species(label=label, scientific=scientific, en=en, es=es, taxon=taxon), voice, peak_hour)


INHABITANTS: tuple[Inhabitant, ...] = tuple(
    sorted(
        (
            _new("dawfin1", "Aves", "Fictavis aurorae", "Dawn Finchling", "Pinzoncito del Alba", voices.rising_whistles, 6),
            _new("dusfin1", "Aves", "Fictavis vespertina", "Dusk Finchling", "Pinzoncito del Ocaso", voices.falling_whistles, 18),
            _new("marwre1", "Aves", "Pilatroglodytes saltans", "Marble Wren", "Cucarachero Canica", voices.quickening_trill, 7),
            _new("clowre1", "Aves", "Pilatroglodytes tardans", "Clockwork Wren", "Cucarachero Relojero", voices.slowing_trill, 9),
            _new("belcuc1", "Aves", "Cuculofictus campana", "Bellring Cuckoo", "Cuco Campanero", voices.high_low, 16),
            _new("wavtin1", "Aves", "Tinamulus undosus", "Wavering Tinamou", "Tinamú Ondulante", voices.vibrato, 5),
            _new("9000101", "Amphibia", "Ranafabula lenta", "Patient Treefrog", "Rana Paciente", voices.slow_pulses, 22),
            _new("9000102", "Amphibia", "Ranafabula celer", "Hurried Treefrog", "Rana Apurada", voices.fast_pulses, 21),
            _new("9000103", "Amphibia", "Eleuthera bitonalis", "Two-tone Rain Frog", "Rana Bitonal", voices.low_high, 20),
            _new("9000201", "Insecta", "Gryllofictus ternus", "Counting Cricket", "Grillo Contador", voices.chirps, 23),
            _new("9000202", "Insecta", "Conofictus crescens", "Swell Katydid", "Esperanza Creciente", voices.swelling_rasps, 2),
            _new("9000203", "Insecta", "Cicadilla cadens", "Fading Cicada", "Chicharra Menguante", voices.fading_rasps, 13),
            _new("9000301", "Mammalia", "Alouattoides ingens", "Cloud Howler", "Aullador de Niebla", voices.roar, 5),
            _new("9000302", "Mammalia", "Cebulus latrator", "Barking Sapajou", "Maicero Ladrador", voices.whinny, 11),
        ),
        key=lambda one: one.label,
    )
)
"""In the plain string order of their labels."""

BY_LABEL: Mapping[str, Inhabitant] = MappingProxyType({one.label: one for one in INHABITANTS})
