"""Pseudo-labels: what a release was sure of, away from voices."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from soundscape.events import ClipAnalysed, Place, Stages, Window
from soundscape.release import write_release
from soundscape.settings import Settings
from soundscape.testing import tone_release
from trainer.replay.judged import Piece
from trainer.replay.pseudo import Speech, pseudo_pieces

NOW = datetime(2026, 3, 1, 6, tzinfo=UTC)
LABELS = ("frog", "owl", "voice")


def answer(*windows: tuple[float, float, float], heard: dict[int, float] | None = None) -> ClipAnalysed:
    """An answer with these scores of LABELS in each window; `heard` are sound-event scores of speech."""
    return ClipAnalysed(
        clip_id=UUID(int=1), stream="REC", site="s", place=Place(topic="clips", partition=0, offset=0), release="r", release_digest="d",
        generation=1, feature_fingerprints=("f",), labels=LABELS, detections=(),
        windows=tuple(
            Window(start_s=5.0 * n, end_s=5.0 * n + 5, scores=scores, events={"speech": heard[n]} if heard and n in heard else {})
            for n, scores in enumerate(windows)
        ),
        stages=Stages(published=NOW, received=NOW, decoded=NOW, features=NOW, inferred=NOW, predicted=NOW),
    )  # fmt: skip


def found(event: ClipAnalysed, tells: bool = True, untold: bool = False) -> tuple[list[Piece], Counter[str]]:
    """Pieces from 0.9 on, speech from 0.1 on; `voice` tells it, if anything does."""
    left: Counter[str] = Counter()
    voices = frozenset({"voice"}) if tells else None
    return pseudo_pieces(event, 0.9, lambda _: voices, 0.1, untold, {"frog", "owl"}, left), left


def test_sure_windows_and_all_that_is_sure_in_them() -> None:
    pieces, left = found(answer((0.95, 0.9, 0.0), (0.89, 0.1, 0.05), (0.9, 0.99, 0.0)))
    assert pieces == [Piece(0.0, 5.0, ("frog", "owl"), "pseudo"), Piece(10.0, 15.0, ("owl", "frog"), "pseudo")]
    assert left == {}


def test_a_voice_takes_its_neighbours_with_it() -> None:
    pieces, left = found(answer((0.95, 0, 0), (0.95, 0, 0), (0.95, 0, 0.1), (0.95, 0, 0), (0.95, 0, 0)))
    assert [piece.start_s for piece in pieces] == [0.0, 20.0]
    assert left == {"pseudo: speech": 3}
    pieces, left = found(answer((0.95, 0, 0), (0.95, 0, 0), heard={1: 0.5}))
    assert pieces == [] and left == {"pseudo: speech": 2}


def test_a_release_that_cannot_tell_speech_labels_nothing_until_it_may() -> None:
    event = answer((0.95, 0, 0.99))
    assert found(event, tells=False) == ([], {"pseudo: the release cannot tell speech": 1})
    assert [piece.labels for piece in found(event, tells=False, untold=True)[0]] == [("frog",)]


def test_a_voice_is_no_species() -> None:
    left: Counter[str] = Counter()
    assert pseudo_pieces(answer((0.0, 0.0, 0.99)), 0.9, lambda _: frozenset({"voice"}), 1.0, False, set(LABELS), left) == []


def test_speech_is_told_by_the_release_itself(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    tone_release(settings.releases / "mute", "mute")
    told = tone_release(settings.releases / "told", "told")
    write_release(told.folder, told.release.model_copy(update={"sound_events": {"speech": ("mid",)}}))
    speech = Speech(settings)
    assert (speech("told"), speech("mute"), speech("gone")) == (frozenset({"mid"}), None, None)
