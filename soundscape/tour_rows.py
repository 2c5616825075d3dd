"""The rows of all tours: one a tour and species, holding the contributions by clip, and one of the tour itself.

Events may come in any order and more than once: each row keeps, for a clip, a judgement or a move, what has the highest offset of its
topic. What belongs together (a clip's answer and its judgements, a stream's) lies in one partition of each topic, so offsets compare.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, MutableMapping, Set
from datetime import datetime
from typing import Any, NamedTuple

from soundscape.audio import WINDOW_S
from soundscape.errors import Invalid, Reason
from soundscape.events import ClipAnalysed, ClipLabelled, Detection, FeedbackGiven, TourMoved
from soundscape.topics import FEEDBACK, LABELS, MAX_MESSAGE_BYTES, PREDICTIONS, TOUR_EVENTS
from soundscape.tour_verdicts import Said
from soundscape.tours import HEAD, Clip, Heard, Move, Row, tour_of
from soundscape.wire import name_of

TourEvent = ClipAnalysed | FeedbackGiven | ClipLabelled | TourMoved
KINDS: dict[str, type[TourEvent]] = {
    TOUR_EVENTS.name: TourMoved, PREDICTIONS.name: ClipAnalysed, FEEDBACK.name: FeedbackGiven, LABELS.name: ClipLabelled,
}  # fmt: skip
"""What lies on the topics that tours are made of."""


class Changed(NamedTuple):
    """A row that stands now, as JSON; None for one that is gone."""

    row: bytes | None
    last: bool = False
    """It gave a judgement away: written only when the row that has it now is, or a crash in between would lose the judgement."""


Changes = dict[bytes, Changed]
"""By key: what the changelog is to say."""
MAX_ROW_BYTES = MAX_MESSAGE_BYTES - 200_000
"""A row is a message: about 17,000 clips of one tour. What would make one larger is passed over."""
_BETWEEN = "\x1f"
_WAITING = "\x1e?"
"""After its stream, the tour in which judgements wait whose clip nobody has answered yet: never shown, and no tour's name."""
_SAID = ("feedback", "labels")


def row_key(tour: str, label: str) -> bytes:
    """Key of a row on the changelog."""
    return f"{tour}{_BETWEEN}{label}".encode()


def key_parts(key: bytes) -> tuple[str, str]:
    """(tour, label) of a key."""
    tour, _, label = key.decode().partition(_BETWEEN)
    return tour, label


class Rows:
    """All rows, with an index of what lies where that is derived from them."""

    def __init__(self, stored: MutableMapping[bytes, Row]) -> None:
        """`stored` keeps the rows; call `index` once it holds those of an earlier life."""
        self._stored = stored
        self._new: dict[bytes, Row | None] = {}
        """Rows that the event in work changes."""
        self._gave: set[bytes] = set()
        """Those of them that give a judgement away."""
        self._clear()

    def _clear(self) -> None:
        self._labels: dict[str, set[str]] = defaultdict(set)
        self._clips: dict[str, set[str]] = defaultdict(set)
        """STREAM and clip -> tours that hold its answer: one, but for the moment of a crash."""
        self._said: dict[str, set[str]] = defaultdict(set)
        """STREAM and clip -> tours that hold judgements of it."""

    def index(self) -> None:
        """Derive the index anew."""
        self._clear()
        for key, row in self._stored.items():
            self._learn(key, None, row)

    def tours(self) -> list[str]:
        """All that have rows."""
        return list(self._labels)

    def of(self, tour: str) -> dict[str, Row]:
        """The rows of a tour by label."""
        return {label: self._stored[row_key(tour, label)] for label in self._labels.get(tour, ())}

    def apply(self, event: TourEvent, offset: int, since: float = 0.0) -> Changes:
        """Take in an event that lies at an offset of its topic; one that is taken in again changes what it has changed, and nothing else.

        Raises Invalid for what no row takes: of another site than its tour, of a tour unknown before `since` (seconds since 1970), of
        which the rows were dropped, or beyond what a row holds.
        """
        self._new, self._gave = {}, set()
        if isinstance(event, ClipAnalysed):
            self._answer(event, offset, since)
        elif isinstance(event, TourMoved):
            self._move(event, offset, since)
        else:
            self._judge(event, offset)
        changes = {key: Changed(_dumped(row), key in self._gave) for key, row in self._new.items()}
        if any(one.row is not None and len(one.row) > MAX_ROW_BYTES for one in changes.values()):
            raise Invalid(Reason.TOO_LARGE, "The tour holds all that it can.")
        for key, row in self._new.items():
            self._keep(key, row)
        return changes

    def drop(self, tour: str) -> Changes:
        """Forget a tour."""
        keys = [row_key(tour, label) for label in self._labels.get(tour, ())]
        for key in keys:
            self._keep(key, None)
        return dict.fromkeys(keys, Changed(None))

    def _keep(self, key: bytes, row: Row | None) -> None:
        before = self._stored.pop(key, None)
        if row is not None:
            self._stored[key] = row
        self._learn(key, before, row)

    def _learn(self, key: bytes, before: Row | None, row: Row | None) -> None:
        """Keep the index with a row that is replaced."""
        tour, label = key_parts(key)
        if row is not None:
            self._labels[tour].add(label)
        else:
            self._labels[tour].discard(label)
            if not self._labels[tour]:
                del self._labels[tour]
        if label != HEAD:
            return
        stream = (row or before or {})["stream"]
        for where, clips in ((self._clips, _answered), (self._said, _judged)):
            old, new = clips(before), clips(row)
            for clip in old - new:
                ref = stream + _BETWEEN + clip
                where[ref].discard(tour)
                if not where[ref]:
                    del where[ref]
            for clip in new - old:
                where[stream + _BETWEEN + clip].add(tour)

    def _get(self, tour: str, label: str) -> Row | None:
        key = row_key(tour, label)
        return self._new[key] if key in self._new else self._stored.get(key)

    def _head(self, tour: str, site: str, stream: str, news: datetime, published: float, since: float) -> Row:
        """The tour's own row to be changed. Raises Invalid where it may not be."""
        head = self._get(tour, HEAD)
        if head is None:
            if published < since:
                raise Invalid(Reason.BAD_REQUEST, f"Tour {tour} lies too long ago; its rows were dropped.")
            head = {"site": site, "stream": stream, "news": 0.0, "shown": False, "clips": {}, "said": {}, "moves": {}}
        if (head["site"], head["stream"]) != (site, stream):
            raise Invalid(Reason.BAD_REQUEST, f"Tour {tour} is another site's or another stream's.")
        return {**head, "news": max(head["news"], news.timestamp())}

    def _put(self, tour: str, label: str, row: Row | None) -> None:
        self._new[row_key(tour, label)] = row

    def _answer(self, event: ClipAnalysed, offset: int, since: float) -> None:
        if event.probe:
            return
        clip, ref = str(event.clip_id), f"{event.stream}{_BETWEEN}{event.clip_id}"
        published = event.stages.published
        moment = event.recorded_at or published
        tour = tour_of(event.tour_id, event.stream, moment)
        elsewhere = self._clips.get(ref, set()) - {tour}
        if any(Clip(*self._stored[row_key(one, HEAD)]["clips"][clip]).offset > offset for one in elsewhere):
            return
        head = self._head(tour, event.site, event.stream, event.stages.predicted, published.timestamp(), since)
        before = head["clips"].get(clip)
        if before is not None and Clip(*before).offset > offset:
            return
        kept = Clip(offset, moment.timestamp(), len(event.windows), event.release, event.latitude, event.longitude)
        self._put(tour, HEAD, {**head, "shown": True, "clips": {**head["clips"], clip: list(kept)}})
        self._hear(tour, clip, offset, event.detections)
        for other in elsewhere:
            left = self._get(other, HEAD)
            assert left is not None
            self._put(other, HEAD, {**left, "clips": _without(left["clips"], clip)})
            self._hear(other, clip, offset, ())
        for other in self._said.get(ref, set()) - {tour}:
            self._bring(other, tour, clip)

    def _hear(self, tour: str, clip: str, offset: int, detections: tuple[Detection, ...]) -> None:
        """Let a clip say of each species of a tour what its answer says, and of the others nothing."""
        by_label: dict[str, list[Detection]] = defaultdict(list)
        for one in detections:
            if name_of(one.label):
                by_label[one.label].append(one)
        for label in self._labels.get(tour, set()) - {HEAD} - by_label.keys():
            row = self._get(tour, label)
            if row and clip in row["clips"]:
                clips = _without(row["clips"], clip)
                self._put(tour, label, {**row, "clips": clips} if clips else None)
        for label, runs in by_label.items():
            row, best = self._get(tour, label), max(runs, key=lambda one: one.confidence)
            windows = sorted({n for one in runs for n in range(round(one.start_s / WINDOW_S), round(one.end_s / WINDOW_S))})
            heard = Heard(offset, best.confidence, best.threshold, windows)
            if row is None or row["named"] <= offset:
                names = [best.names.scientific, best.names.en, best.names.es]
                row = {"named": offset, "names": names, "taxon": best.taxon, "clips": row["clips"] if row else {}}
            self._put(tour, label, {**row, "clips": {**row["clips"], clip: list(heard)}})

    def _bring(self, other: str, tour: str, clip: str) -> None:
        """Bring the judgements of a clip from a tour where they waited."""
        left, head = self._get(other, HEAD), self._get(tour, HEAD)
        assert left is not None
        assert head is not None
        moving = {name: one for name, one in left["said"].items() if Said(*one).clip == clip}
        newer = {name: one for name, one in moving.items() if _newer(head["said"].get(name), one)}
        self._put(tour, HEAD, {**head, "news": max(head["news"], left["news"]), "said": {**head["said"], **newer}})
        rest = {name: one for name, one in left["said"].items() if name not in moving}
        self._put(other, HEAD, {**left, "said": rest} if rest or left["shown"] or left["moves"] else None)
        self._gave.add(row_key(other, HEAD))

    def _judge(self, event: FeedbackGiven | ClipLabelled, offset: int) -> None:
        expert = isinstance(event, ClipLabelled)
        given = event.labelled_at if isinstance(event, ClipLabelled) else event.given_at
        recorded = None if isinstance(event, ClipLabelled) else event.recorded_at
        clip, ref = str(event.clip_id), f"{event.stream}{_BETWEEN}{event.clip_id}"
        if homes := self._clips.get(ref):  # two only while an answer that a crash cut off has not come again
            tour = max(homes, key=lambda one: Clip(*self._stored[row_key(one, HEAD)]["clips"][clip]).offset)
        elif event.tour_id is not None or recorded is not None:
            tour = tour_of(event.tour_id, event.stream, recorded or given)
        else:
            tour = event.stream + _WAITING
        name = f"{_SAID[expert]}:{event.event_id()}"
        said = Said(
            offset, expert, clip, event.by, event.verdict, _names(event.labels),
            [] if isinstance(event, ClipLabelled) else _names(event.heard),
            event.start_s if isinstance(event, ClipLabelled) else 0.0, event.end_s if isinstance(event, ClipLabelled) else 0.0,
            (recorded or given).timestamp(),
        )  # fmt: skip
        head = self._head(tour, event.site, event.stream, given, float("inf"), 0.0)
        if _newer(head["said"].get(name), list(said)):
            self._put(tour, HEAD, {**head, "said": {**head["said"], name: list(said)}})
        for other in self._said.get(ref, set()) - {tour}:
            if self._clips.get(ref):
                self._bring(other, tour, clip)

    def _move(self, event: TourMoved, offset: int, since: float) -> None:
        ending = event.what == "ended"
        published = float("inf") if ending else event.at.timestamp()
        head = self._head(event.tour_id, event.site, event.tour_id, event.at, published, since)
        before = head["moves"].get(event.what)
        if before is None or Move(*before).offset <= offset:
            move = Move(offset, event.at.timestamp(), event.by, event.rating, event.note)
            moves = {**head["moves"], event.what: list(move)}
            self._put(event.tour_id, HEAD, {**head, "shown": head["shown"] or not ending, "moves": moves})


def _answered(head: Row | None) -> Set[str]:
    return head["clips"].keys() if head else set()


def _judged(head: Row | None) -> Set[str]:
    return {Said(*one).clip for one in head["said"].values()} if head else set()


def _newer(before: list[Any] | None, now: list[Any]) -> bool:
    return before is None or Said(*before).offset <= Said(*now).offset


def _without(clips: Mapping[str, Any], clip: str) -> Row:
    return {name: one for name, one in clips.items() if name != clip}


def _names(labels: tuple[str, ...]) -> list[str]:
    """Those that can be a row's label."""
    return [label for label in labels if name_of(label)]


def _dumped(row: Row | None) -> bytes | None:
    return None if row is None else json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()
