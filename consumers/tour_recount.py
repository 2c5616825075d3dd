"""Tours as the topics alone say them: the summaries on `tours`, and the same recounted in one go from what they were made of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from consumers.follow import read
from soundscape.deployments import read_states
from soundscape.errors import Invalid, Unavailable
from soundscape.events import TourSummed
from soundscape.kafka import backlog, new_admin, new_consumer, read_all
from soundscape.release import named_release
from soundscape.settings import Settings
from soundscape.taxonomy import Species
from soundscape.topics import FEEDBACK, LABELS, PREDICTIONS, TOUR_EVENTS, TOURS
from soundscape.tour_rows import KINDS, Rows
from soundscape.tours import HEAD, NamesOf, summary

PROCESS = "tours"
ORDER = (LABELS, FEEDBACK, TOUR_EVENTS, PREDICTIONS)
"""Judgements before what they judge: another order than the stream's, which must not matter."""
DAY_S = 86_400.0
ASK_S = 0.2
"""Seconds between two looks while the stream catches up."""


def read_summaries(settings: Settings) -> dict[str, TourSummed]:
    """The latest summary of each tour. Raises Unavailable."""
    events = (read(PROCESS, TourSummed, record) for record in _records(settings, TOURS.name) if record.value is not None)
    return {event.tour_id: event for event in events if event is not None}


def recount(settings: Settings) -> dict[str, TourSummed]:
    """Every tour's summary from the topics alone; those are left out whose rows the stream drops by now. Raises Unavailable."""
    rows = Rows({})
    for topic in ORDER:
        for record in _records(settings, topic.name):
            event = read(PROCESS, KINDS[topic.name], record)
            if event is not None:
                try:
                    rows.apply(event, record.offset)
                except Invalid:  # the stream passes over it too, and says so
                    continue
    names, at = _names(settings), datetime.now(UTC)
    since = time.time() - settings.tour_days * DAY_S
    found: dict[str, TourSummed] = {}
    for tour in rows.tours():
        of_tour = rows.of(tour)
        if of_tour[HEAD]["news"] >= since and (said := summary(tour, of_tour, names, at)) is not None:
            found[tour] = said
    return found


class StillBehind(Unavailable):
    """The stream has not come to the log's end: what its tours lack may be yet to come."""


class Wrong(NamedTuple):
    """A tour whose summary is not what the log says, while the log said nothing new of it."""

    tour: str
    said: TourSummed | None
    counted: TourSummed | None


def compare_all(settings: Settings, wait_s: float) -> tuple[int, list[Wrong]]:
    """(tours compared, those that are wrong): recounted before and after the summaries were read, and the same both times.

    Raises Unavailable; StillBehind if the stream has not caught up within `wait_s`.
    """
    before = recount(settings)
    _caught_up(settings, wait_s)
    said = read_summaries(settings)
    since = datetime.fromtimestamp(time.time() - settings.tour_days * DAY_S, UTC)
    said = {tour: one for tour, one in said.items() if tour in before or one.at >= since}
    differing = [tour for tour in sorted(before.keys() | said.keys()) if _bare(said.get(tour)) != _bare(before.get(tour))]
    after = recount(settings) if differing else {}
    still = [tour for tour in differing if _bare(before.get(tour)) == _bare(after.get(tour))]  # the others moved on: another time
    return len(before.keys() | said.keys()), [Wrong(tour, said.get(tour), after.get(tour)) for tour in still]


def differences(settings: Settings, wait_s: float) -> tuple[int, list[str]]:
    """(tours compared, a line for each whose summary is not what a recount gives). Raises as `compare_all`."""
    compared, wrong = compare_all(settings, wait_s)
    return compared, [line for one in wrong if (line := difference(*one))]


def miscounts(settings: Settings, wait_s: float) -> list[str]:
    """A line for each tour on the log that holds a clip twice, or misses one. Raises as `compare_all`.

    A summary of which the log has nothing is older than what the log remembers.
    """
    lines = []
    for tour, said, counted in compare_all(settings, wait_s)[1]:
        held, there = said.clips if said else 0, counted.clips if counted else 0
        if counted is not None and held != there:
            lines.append(f"{tour}: its summary holds {held} clips, the log {there}")
    return lines


def difference(tour: str, said: TourSummed | None, counted: TourSummed | None) -> str | None:
    """What is wrong with a summary, in one line; None if it is as recounted."""
    if _bare(said) == _bare(counted):
        return None
    if said is None or counted is None:
        return f"{tour}: {'no summary, but the log has it' if said is None else 'a summary, but the log has nothing of it'}"
    one, other = _bare(said), _bare(counted)
    fields = [name for name in one if one[name] != other[name]]
    return f"{tour}: " + "; ".join(f"{name} is {one[name]}, the log says {other[name]}" for name in fields)


def _bare(said: TourSummed | None) -> dict[str, Any]:
    """A summary without its moment, and without the names that the release of that moment gave."""
    return said.model_dump(mode="json", exclude={"at": True, "heard": {"__all__": {"names", "taxon"}}}) if said else {}


def _caught_up(settings: Settings, wait_s: float) -> None:
    deadline, admin = time.monotonic() + wait_s, new_admin(settings)
    try:
        while behind := sum(backlog(admin, topic, PROCESS) for topic in ORDER):
            if time.monotonic() > deadline:
                raise StillBehind(f"The process `tours` is {behind} records behind; try again when it has caught up.")
            time.sleep(ASK_S)
    finally:
        admin.close()


def _records(settings: Settings, topic: str) -> Iterator[Any]:
    consumer = new_consumer(settings)
    try:
        yield from read_all(consumer, [topic])
    finally:
        consumer.close()


def _names(settings: Settings) -> NamesOf:
    """The names of species by each site's champion, where it can be loaded."""
    known: dict[str, dict[str, Species]] = {}
    for site, state in read_states(settings).items():
        try:
            loaded = named_release(settings.releases, state.champion.name, state.champion.digest)
        except Invalid:
            continue
        known[site] = {one.label: one for one in loaded.release.labels}
    return lambda site, label: known.get(site, {}).get(label)
