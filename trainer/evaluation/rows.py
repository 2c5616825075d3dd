"""Windows that have truth, with what one or several releases answer to them: what every number of an evaluation is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from soundscape.audio import WINDOW_S
from soundscape.errors import Invalid, Reason
from soundscape.features import Float32
from soundscape.fuse import Fused
from soundscape.release import LoadedRelease
from soundscape.taxonomy import Species
from trainer.evaluation.hear import Ears, Features, hear_all, specs_of
from trainer.evaluation.material import KINDS, EvaluationSet, Kind, Sound
from trainer.progress import Counted

Bool = npt.NDArray[np.bool_]
Strings = npt.NDArray[np.str_]
Told = tuple[Features, dict[str, Fused]]
"""Of one sound: silence and levels (its features are let go), and what each release answers."""


@dataclass(frozen=True)
class Answers:
    """Of one release, in the columns of the set: scores float32 (rows, labels), 0 where it lacks the label; and what it named, bool."""

    scores: Float32
    named: Bool
    lacks: tuple[str, ...]
    """Labels of the set that the release does not know."""
    beyond: int = 0
    """Rows in which it named something that the set has no label for."""


@dataclass(frozen=True)
class Rows:
    """All windows of a kind."""

    kind: Kind
    sounds: tuple[Sound, ...]
    which: npt.NDArray[np.intp]
    """(rows,) number of the row's sound."""
    window: npt.NDArray[np.intp]
    """(rows,) number of the window in its sound."""
    truth: Bool
    snr: npt.NDArray[np.float32]
    """(rows, labels) dB of the loudest call, NaN where it is not known."""
    levels: Float32
    """(rows,) dB."""
    answers: dict[str, Answers] = field(default_factory=dict)
    """By the name that the release was given."""

    @property
    def recordings(self) -> Strings:
        """(rows,)"""
        return np.array([sound.recording for sound in self.sounds])[self.which]

    @property
    def groups(self) -> Strings:
        """(rows,) stream and day."""
        return np.array([sound.group for sound in self.sounds])[self.which]

    def id_of(self, row: int) -> str:
        """NAME@SECOND of a row."""
        return f"{self.sounds[self.which[row]].name}@{self.window[row] * WINDOW_S:g}"


@dataclass
class Heard:
    """A set as it was heard."""

    material: EvaluationSet
    rows: dict[Kind, Rows]
    refused: list[tuple[str, str]]
    """Sounds that do not decode, and why."""


def columns(loaded: LoadedRelease, species: Sequence[Species]) -> npt.NDArray[np.intp]:
    """The release's column of each species, -1 where it has none: by label, else by scientific name."""
    by_label = {label: n for n, label in enumerate(loaded.label_names)}
    by_name = {one.scientific.lower(): n for n, one in enumerate(loaded.release.labels)}
    return np.array([by_label.get(one.label, by_name.get(one.scientific.lower(), -1)) for one in species], np.intp)


def hear_set(
    material: EvaluationSet,
    releases: Mapping[str, Ears],
    progress: Counted = lambda _n, _of: None,
    children: int | None = None,
) -> Heard:
    """Let each release hear the whole set once; `releases` by a name of the caller's choice.

    Raises Invalid if no sound of the set decodes.
    """
    sounds = material.sounds
    told: dict[int, Told] = {}
    refused: list[tuple[str, str]] = []

    def take(n: int, features: Features) -> None:
        answers = {name: ears.answer(features, sounds[n].recorded_at) for name, ears in releases.items()}
        told[n] = (features._replace(by_spec={}), answers)

    def refuse(n: int, error: Invalid) -> None:
        refused.append((sounds[n].name, error.detail))

    specs = specs_of(*(ears.loaded for ears in releases.values()))
    hear_all([sound.path for sound in sounds], specs, take, refuse, progress, children)
    if not told:
        why = refused[0][1] if refused else "there is none"
        raise Invalid(Reason.BAD_REQUEST, f"No sound of {material.folder} can be decoded ({why}).")
    rows = {}
    for kind in KINDS:
        there = [n for n in sorted(told) if sounds[n].kind == kind]
        made = _rows(material, kind, there, told, releases)
        if made is not None:
            rows[kind] = made
    return Heard(material, rows, sorted(refused))


def _rows(
    material: EvaluationSet, kind: Kind, there: list[int], told: Mapping[int, Told], releases: Mapping[str, Ears]
) -> Rows | None:
    column = {label: n for n, label in enumerate(material.labels)}
    which: list[int] = []
    window: list[int] = []
    truth: list[Bool] = []
    snr: list[npt.NDArray[np.float32]] = []
    for position, n in enumerate(there):
        sound, silent = material.sounds[n], told[n][0].silent
        count = len(silent)
        labelled = sound.rows  # a label of a focal clip holds for each of its windows that has a sound
        if kind == "focal":
            labelled = tuple((number, sound.labels) for number in range(count) if not silent[number])
        for number, labels in labelled:
            if not 0 <= number < count:
                continue
            row = np.zeros(len(column), bool)
            row[[column[label] for label in labels if label in column]] = True
            which.append(position)
            window.append(number)
            truth.append(row)
            snr.append(_loudest(sound, number, column))
    if not truth:
        return None
    at, where = np.array(which, np.intp), np.array(window, np.intp)
    levels = np.array([told[there[w]][0].levels[n] for w, n in zip(which, window, strict=True)], np.float32)
    answers = {name: _answers(material, ears.loaded, [told[n][1][name] for n in there], at, where) for name, ears in releases.items()}
    return Rows(kind, tuple(material.sounds[n] for n in there), at, where, np.stack(truth), np.stack(snr), levels, answers)


def _loudest(sound: Sound, window: int, column: Mapping[str, int]) -> npt.NDArray[np.float32]:
    out = np.full(len(column), np.nan, np.float32)
    first, last = window * WINDOW_S, (window + 1) * WINDOW_S
    for start, end, label, decibels in sound.events:
        if label in column and start < last and end > first:
            out[column[label]] = np.fmax(out[column[label]], decibels)
    return out


def _answers(
    material: EvaluationSet, loaded: LoadedRelease, fused: Sequence[Fused], which: npt.NDArray[np.intp], window: npt.NDArray[np.intp]
) -> Answers:
    own = columns(loaded, material.species)
    known = own >= 0
    scores, named = np.zeros((len(which), len(own)), np.float32), np.zeros((len(which), len(own)), bool)
    others = np.setdiff1d(np.arange(len(loaded.label_names)), own[known])
    beyond = 0
    for row, (sound, number) in enumerate(zip(which, window, strict=True)):
        above = fused[sound].unweighted[number] >= loaded.thresholds  # as `soundscape.fuse.detect`: before the prior
        scores[row, known] = fused[sound].scores[number, own[known]]
        named[row, known] = above[own[known]]
        beyond += bool(above[others].any())
    return Answers(scores, named, tuple(one.label for one, there in zip(material.species, known, strict=True) if not there), beyond)
