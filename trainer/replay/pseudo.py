"""What a release was sure of: pseudo-labels from its stored answers, never near a voice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container

from soundscape.errors import Invalid
from soundscape.events import ClipAnalysed
from soundscape.release import named_release
from soundscape.settings import Settings
from trainer.replay.judged import Piece

LEAST = 0.5
"""Lowest score that may be asked for: below it an answer is no more than a guess."""


class Speech:
    """Which labels of a release tell a human voice, read once from its folder."""

    def __init__(self, settings: Settings) -> None:
        self._releases = settings.releases
        self._known: dict[str, frozenset[str] | None] = {}

    def __call__(self, release: str) -> frozenset[str] | None:
        """The labels, or None where the release cannot tell speech or is not here any more."""
        if release not in self._known:
            try:
                told = named_release(self._releases, release).release.sound_events.get("speech")
            except Invalid:
                told = None
            self._known[release] = frozenset(told) if told else None
        return self._known[release]


def pseudo_pieces(
    event: ClipAnalysed,
    least: float,
    speech: Callable[[str], frozenset[str] | None],
    limit: float,
    untold: bool,
    known: Container[str],
    left: Counter[str],
) -> list[Piece]:
    """The windows in which something scores `least` or more, with all that does, the surest first.

    A window whose speech score reaches `limit` is left out with its neighbours, as it is never sampled; so is all that a release said
    that cannot tell speech, unless `untold`. Labels beyond `known` (voices, engines) are no species. `left` counts what is left out.
    """
    voices = speech(event.release)
    scored = [dict(zip(event.labels, window.scores, strict=True)) for window in event.windows]
    spoken: list[float | None] = []
    for window, scores in zip(event.windows, scored, strict=True):
        told = window.events.get("speech")
        spoken.append(told if voices is None else max([told or 0.0, *(scores.get(one, 0.0) for one in voices)]))
    pieces = []
    for n, (window, scores) in enumerate(zip(event.windows, scored, strict=True)):
        animals = [label for label in scores if label in known and label not in (voices or ())]
        sure = sorted((label for label in animals if scores[label] >= least), key=lambda label: (-scores[label], label))
        if not sure:
            continue
        near = spoken[max(0, n - 1) : n + 2]
        if any(one is None for one in near) and not untold:
            left["pseudo: the release cannot tell speech"] += 1
        elif any(one is not None and one >= limit for one in near):
            left["pseudo: speech"] += 1
        else:
            pieces.append(Piece(window.start_s, window.end_s, tuple(sure), "pseudo"))
    return pieces
