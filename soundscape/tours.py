"""What a tour, or a day of a recorder, has heard: every sum derived from its rows (soundscape.tour_rows). Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from soundscape.audio import WINDOW_S
from soundscape.events import Names, TourSpecies, TourSummed
from soundscape.taxonomy import Species
from soundscape.tour_verdicts import Said, Verdict, standing, verdicts

Row = dict[str, Any]
"""A row as JSON. It is replaced, never changed in place."""
HEAD = ""
"""The label under which a tour's own row stands: its clips, what people said, its start and end."""
NamesOf = Callable[[str, str], Species | None]
"""The species of a site's label, if its release knows it."""

CONFIRMED_WINDOWS = 2
"""Heard twice: one window's chance error is far likelier than two close together."""
CONFIRMED_WITHIN = 12
"""Among so many consecutive windows: one minute of listening, in which a singing animal is heard again."""
LEAST_EFFORT_MINUTES = 1.0
"""A rate per hour from less is noise."""
NO_SPECIES = "Other"
"""Taxon of voices and engines: no part of a tour's species."""
_LONGEST = 200 - len("@2026-11-24")
_STATUSES = ("confirmed", "provisional", "rejected")
Status = Literal["confirmed", "provisional", "rejected"]


class Clip(NamedTuple):
    """An answered clip, as the tour's own row keeps it."""

    offset: int
    """Of its answer on `predictions`: the highest is the effective one."""
    start: float
    """When it was recorded, else published; seconds since 1970."""
    windows: int
    release: str
    latitude: float | None
    longitude: float | None


class Heard(NamedTuple):
    """What a clip's answer says of one species, as the species' row keeps it."""

    offset: int
    confidence: float
    threshold: float
    windows: list[int]
    """From 0."""


class Move(NamedTuple):
    """A start or an end, as the tour's own row keeps it."""

    offset: int
    at: float
    by: str
    rating: int | None
    note: str | None


def tour_of(tour_id: str | None, stream: str, moment: datetime) -> str:
    """The tour of a clip: its own, else STREAM@DAY of the moment in UTC. A very long stream is cut, and told apart by a digest."""
    if tour_id is not None:
        return tour_id
    if len(stream) > _LONGEST:
        digest = hashlib.sha256(stream.encode()).hexdigest()[:12]
        stream = f"{stream[: _LONGEST - 13]}~{digest}"
    return f"{stream}@{moment.astimezone(UTC):%Y-%m-%d}"


def strong(heard: Heard) -> bool:
    """Whether a species that was rejected is believed all the same: at least halfway from its threshold to certainty."""
    return heard.confidence >= heard.threshold + (1 - heard.threshold) / 2


class Tour:
    """The rows of one tour, read: what its answers name now and what people say of it."""

    def __init__(self, rows: Mapping[str, Row]) -> None:
        self.head = rows[HEAD]
        self.clips = {clip: Clip(*kept) for clip, kept in self.head["clips"].items()}
        self.said = [Said(*kept) for kept in self.head["said"].values()]
        self.moves = {what: Move(*kept) for what, kept in self.head["moves"].items()}
        self.heard = {label: self._effective(row) for label, row in rows.items() if label != HEAD}
        """Label -> clip -> what the clip's effective answer says."""
        named: dict[str, dict[str, list[int]]] = {}
        for label, by_clip in self.heard.items():
            for clip, heard in by_clip.items():
                named.setdefault(clip, {})[label] = heard.windows
        self.verdicts = verdicts(self.said, named, {clip: kept.windows for clip, kept in self.clips.items()})
        self._judged_at = {one.clip: one.at for one in sorted(self.said, key=lambda one: one.at)}
        self._first: dict[str, int] = {}
        """Clip -> how many windows of the tour lie before its own, by time."""
        count = 0
        for clip, kept in sorted(self.clips.items(), key=lambda pair: (pair[1].start, pair[0])):
            self._first[clip] = count
            count += kept.windows

    def _effective(self, row: Row) -> dict[str, Heard]:
        """Without what an earlier answer said: a crash may leave it for a moment."""
        heard = ((clip, Heard(*kept)) for clip, kept in row["clips"].items())
        return {clip: one for clip, one in heard if clip in self.clips and self.clips[clip].offset == one.offset}

    def moment(self, clip: str) -> float:
        """When a clip was recorded, as far as is known; seconds since 1970."""
        return self.clips[clip].start if clip in self.clips else self._judged_at[clip]

    def confirmed(self, heard: Mapping[str, Heard]) -> bool:
        """Whether enough windows lie close enough together."""
        positions = sorted(self._first[clip] + n for clip, one in heard.items() for n in one.windows)
        later = positions[CONFIRMED_WINDOWS - 1 :]
        return any(end - first < CONFIRMED_WITHIN for first, end in zip(positions, later, strict=False))


def judge(tour: Tour, label: str) -> tuple[Status, bool, dict[str, Heard]] | None:
    """(status, whether a person settled it, the clips that count) of a species; None where nothing names it any more.

    A person's yes confirms; guides who contradict each other leave it provisional. A no takes away its clip, and all that lies before
    it: of the clips after the last one so judged, those count that are `strong`. Of a rejected species all clips are given.
    """
    said: Mapping[str, Verdict] = tour.verdicts.get(label, {})
    everything = tour.heard.get(label, {})
    denied = [clip for clip, verdict in said.items() if verdict == "no"]
    counted = {clip: one for clip, one in everything.items() if said.get(clip) != "no"}
    if "yes" in said.values():
        return "confirmed", True, counted
    if "contested" in said.values():
        return "provisional", False, counted
    if denied:
        until = max(map(tour.moment, denied))
        counted = {clip: one for clip, one in counted.items() if tour.moment(clip) > until and strong(one)}
        if not counted:
            return ("rejected", True, everything) if everything else None
    if not counted:
        return None
    return "confirmed" if tour.confirmed(counted) else "provisional", False, counted


def species(tour: Tour, label: str, row: Row | None, names: NamesOf) -> TourSpecies | None:
    """One species of a tour; None where nothing names it any more, and for what is none (a voice, an engine)."""
    judged = judge(tour, label)
    if judged is None:
        return None
    status, by_person, counted = judged
    named: Names | None
    if row:
        named, taxon = Names(**dict(zip(("scientific", "en", "es"), row["names"], strict=True))), row["taxon"]
    else:
        known = names(tour.head["site"], label)
        named = Names(scientific=known.scientific, en=known.en, es=known.es) if known else None
        taxon = known.taxon if known else None
    if taxon == NO_SPECIES:
        return None
    people = {clip for clip, verdict in tour.verdicts.get(label, {}).items() if verdict == "yes"}
    moments = [tour.clips[clip].start for clip in counted.keys() | people if clip in tour.clips]
    best = max(counted, key=lambda clip: (counted[clip].confidence, -tour.clips[clip].start, clip), default=min(people, default=None))
    where = tour.clips.get(best) if best else None
    return TourSpecies(
        label=label,
        names=named,
        taxon=taxon,
        status=status,
        clips=len(counted.keys() | people),
        windows=sum(len(one.windows) for one in counted.values()),
        confidence=counted[best].confidence if best in counted else 0.0,
        best_clip=UUID(best) if best else None,
        first_at=_moment(min(moments)) if moments else None,
        last_at=_moment(max(moments)) if moments else None,
        latitude=where.latitude if where else None,
        longitude=where.longitude if where else None,
        by_person=by_person,
    )


def summary(tour_id: str, rows: Mapping[str, Row], names: NamesOf, at: datetime) -> TourSummed | None:
    """A tour whole, from its rows by label; None before anything but judgements or an end is known of it."""
    if HEAD not in rows or not rows[HEAD]["shown"]:
        return None
    tour = Tour(rows)
    found = [species(tour, label, rows.get(label), names) for label in {*tour.heard, *tour.verdicts}]
    heard = sorted((one for one in found if one), key=lambda one: (_STATUSES.index(one.status), -one.confidence, one.label))
    started, ended = tour.moves.get("started"), tour.moves.get("ended")
    starts = [one.start for one in tour.clips.values()] + ([started.at] if started else [])
    ends = [one.start + one.windows * WINDOW_S for one in tour.clips.values()] + ([ended.at] if ended else [])
    minutes = max(0.0, max(ends) - min(starts)) / 60 if starts and ends else 0.0
    diversity = sum(one.status == "confirmed" for one in heard)
    releases = dict.fromkeys(one.release for one in sorted(tour.clips.values(), key=lambda one: one.offset))
    return TourSummed(
        tour_id=tour_id,
        site=tour.head["site"],
        stream=tour.head["stream"],
        species=tuple(one.label for one in heard if one.status != "rejected"),
        heard=tuple(heard),
        clips=len(tour.clips),
        at=at,
        started_at=_moment(started.at) if started else None,
        ended_at=_moment(ended.at) if ended else None,
        rating=ended.rating if ended else None,
        note=(ended.note if ended else None) or (started.note if started else None),
        effort_minutes=round(minutes, 3),
        diversity=diversity,
        diversity_per_hour=round(diversity / minutes * 60, 3) if minutes >= LEAST_EFFORT_MINUTES else None,
        feedback=sum(not one.expert for one in standing(tour.said)),
        by=started.by if started else None,
        releases=tuple(releases),
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
