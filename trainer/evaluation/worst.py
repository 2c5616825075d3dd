"""The worst errors, to be looked at and listened to: confident wrong names, and calls that were not named at all."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from soundscape.audio import SAMPLE_RATE, WINDOW_S, encode_ogg
from soundscape.features import LOG_MEL, SILENCE_POWER, Float32, mel_power
from trainer.evaluation.hear import sound_of
from trainer.evaluation.rows import Heard, Rows

EACH = 5
"""Of wrong names, and of missed calls."""
OF_A_LABEL = 2
"""At most so many of one label: ten times the same error teaches less."""
SHOWN_DB = 70.0


@dataclass(frozen=True)
class Error:
    """One wrong answer with its five seconds: PNG of the log-mel spectrogram, OGG of the sound."""

    what: Literal["wrong name", "missed"]
    label: str
    score: float
    where: str
    there: tuple[str, ...]
    named: tuple[str, ...]
    picture: bytes
    sound: bytes


def worst_errors(heard: Heard, name: str) -> list[Error]:
    """At most ten, the worst first, of the soundscapes if there are any, else of the focal clips."""
    rows = heard.rows.get("soundscapes") or heard.rows["focal"]
    answers, labels = rows.answers[name], heard.material.labels
    out = []
    for row, column in (*_wrong(rows, name), *_missed(rows, name)):
        missed = bool(rows.truth[row, column])
        window = _window(rows, row)
        out.append(
            Error(
                "missed" if missed else "wrong name", labels[column], float(answers.scores[row, column]), rows.id_of(row),
                tuple(labels[n] for n in np.flatnonzero(rows.truth[row])), tuple(labels[n] for n in np.flatnonzero(answers.named[row])),
                picture(window), encode_ogg(window),
            )
        )  # fmt: skip
    return out


def picture(window: Float32) -> bytes:
    """PNG of five seconds' log-mel spectrogram, time to the right, the lowest band at the bottom."""
    from matplotlib.image import imsave

    decibels = 10 * np.log10(np.maximum(mel_power(window, LOG_MEL), SILENCE_POWER))
    body = io.BytesIO()
    imsave(body, decibels, cmap="magma", vmin=decibels.max() - SHOWN_DB, vmax=decibels.max(), origin="lower", format="png")
    return body.getvalue()


def _wrong(rows: Rows, name: str) -> list[tuple[int, int]]:
    answers = rows.answers[name]
    cells = answers.named & ~rows.truth
    return _spread(np.where(cells, answers.scores, -1.0), cells.any(axis=1))


def _missed(rows: Rows, name: str) -> list[tuple[int, int]]:
    answers = rows.answers[name]
    cells = rows.truth & ~answers.named
    return _spread(np.where(cells, 1.0 - answers.scores, -1.0), cells.any(axis=1))


def _spread(badness: Float32, some: Any) -> list[tuple[int, int]]:
    """The worst cells (row, column), one a row, few of a label."""
    columns = badness.argmax(axis=1)
    order = sorted(np.flatnonzero(some).tolist(), key=lambda row: (-float(badness[row, columns[row]]), row))
    seen: Counter[int] = Counter()
    out: list[tuple[int, int]] = []
    for row in order:
        column = int(columns[row])
        if seen[column] < OF_A_LABEL and len(out) < EACH:
            seen[column] += 1
            out.append((row, column))
    return out


def _window(rows: Rows, row: int) -> Float32:
    wave = sound_of(rows.sounds[rows.which[row]].path)
    length = int(WINDOW_S * SAMPLE_RATE)
    part = wave[int(rows.window[row] * length) :][:length]
    return np.pad(part, (0, length - part.size))
