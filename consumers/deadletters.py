"""`soundscape deadletters`: what could not be answered, looked at and brought back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from consumers.again import send
from consumers.follow import read
from soundscape.errors import Invalid, Reason
from soundscape.events import ClipDied
from soundscape.kafka import new_consumer, read_all
from soundscape.metrics import REPLAYED
from soundscape.options import NAME
from soundscape.settings import Settings, get_settings
from soundscape.topics import DEAD_LETTERS, LANES, PREDICTIONS
from soundscape.wire import ORIGINAL, PREFIX, Message, replayed, revived, texts

PROCESS = "deadletters"
LANE_TOPICS = frozenset(topic.name for topic in LANES.values())
"""Where a dead letter may be sent again."""


@dataclass(frozen=True)
class Letter:
    """The latest dead letter of a clip, without its body."""

    event: ClipDied
    headers: dict[str, str]
    """Of the record that died, as text."""
    size: int
    """Bytes of the record that died."""
    place: tuple[int, int]
    """Partition and offset of the dead letter."""
    answered: bool


def letters(settings: Settings) -> list[Letter]:
    """The latest dead letter of each clip, oldest first, without probes; bodies are not kept. Raises Unavailable."""
    found: dict[str, Letter] = {}
    for record, event in _dead(settings):
        headers = {name.removeprefix(ORIGINAL): text for name, text in texts(record.headers).items() if name.startswith(ORIGINAL)}
        bare = event.model_copy(update={"original": b""})
        found[event.clip_id] = Letter(bare, headers, len(event.original), (record.partition, record.offset), answered=False)
    answered = answered_ids(settings)
    marked = [Letter(one.event, one.headers, one.size, one.place, clip in answered) for clip, one in found.items()]
    return sorted(marked, key=lambda one: one.event.died_at)


def answered_ids(settings: Settings) -> set[str]:
    """Ids of the clips that have a prediction, from the records' headers alone. Raises Unavailable."""
    consumer = new_consumer(settings)
    try:
        named = (texts(record.headers) for record in read_all(consumer, [PREDICTIONS.name]))
        return {said[PREFIX + "clipid"] for said in named if PREFIX + "clipid" in said}
    finally:
        consumer.close()


def replay(settings: Settings, wanted: Callable[[ClipDied], bool], *, by_itself: bool = False) -> int:
    """Send the wanted clips again, to the topic each came from, those that were not answered since; returns how many.

    Only the lanes' topics are sent to. A clip that died twice is sent once. What is sent `by_itself`, with nobody asking, says how often
    it was: a worker does not try it so for ever. Raises Unavailable; a second call is harmless.
    """
    latest = {(one.place): one for one in letters(settings) if not one.answered and one.event.topic in LANE_TOPICS}
    if not any(wanted(one.event) for one in latest.values()):
        return 0
    records = _revived(settings, lambda place, event: place in latest and wanted(event))
    return send(settings, ((topic, replayed(message) if by_itself else message) for topic, message in records))


def _revived(settings: Settings, wanted: Callable[[tuple[int, int], ClipDied], bool]) -> Iterator[tuple[str, Message]]:
    for record, event in _dead(settings):  # a second reading, so that no bodies are held meanwhile
        if wanted((record.partition, record.offset), event):
            yield event.topic, revived(list(record.headers), record.value or b"")
            REPLAYED.labels(event.reason).inc()


def body_of(settings: Settings, letter: Letter) -> bytes:
    """The bytes of the record that died. Raises Unavailable."""
    return next((event.original for record, event in _dead(settings) if (record.partition, record.offset) == letter.place), b"")


def _dead(settings: Settings) -> Iterator[tuple[Any, ClipDied]]:
    consumer = new_consumer(settings)
    try:
        for record in read_all(consumer, [DEAD_LETTERS.name]):
            event = read(PROCESS, ClipDied, record)
            if event is not None and not event.probe:
                yield record, event
    finally:
        consumer.close()


def _matches(event: ClipDied, ids: tuple[str, ...], reason: str | None, site: str | None) -> bool:
    return (not ids or event.clip_id in ids) and reason in (None, event.reason) and site in (None, event.site)


REASON = click.option("--reason", type=click.Choice([reason.value for reason in Reason]), help="Only those that died of this.")
SITE = click.option("--site", type=NAME, help="Only those of this site.")


@click.group()
def deadletters() -> None:
    """Clips that could not be answered: list them, look at one, send them again."""


@deadletters.command("list")
@REASON
@SITE
@click.option("--limit", default=50, show_default=True, help="At most so many, the latest.")
@click.option("--all", "everything", is_flag=True, help="Also those that were answered since.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def list_command(reason: str | None, site: str | None, limit: int, everything: bool, as_json: bool) -> None:
    """The clips that died and have no answer."""
    found = [one for one in letters(get_settings()) if (everything or not one.answered) and _matches(one.event, (), reason, site)]
    shown = found[-limit:] if limit > 0 else []
    if as_json:
        click.echo(json.dumps([_said(one) for one in shown]))
        return
    for one in shown:
        event = one.event
        parts = (event.clip_id, event.reason, event.site, f"{event.died_at:%Y-%m-%d %H:%M:%S}", event.file_name)
        click.echo("  ".join(part for part in parts if part) + f"\n    {event.detail}")
    click.echo(f"{len(found)} dead letters without an answer." if not everything else f"{len(found)} dead letters.")


@deadletters.command("show")
@click.argument("clip_id", metavar="ID")
@click.option("--body", type=click.Path(path_type=Path, dir_okay=False), help="Write the original bytes to this file.")
def show_command(clip_id: str, body: Path | None) -> None:
    """All that is known of one."""
    letter = next((one for one in letters(get_settings()) if one.event.clip_id == clip_id), None)
    if letter is None:
        raise Invalid(Reason.BAD_REQUEST, f"There is no dead letter of {clip_id}; see `soundscape deadletters list --all`.")
    click.echo(json.dumps(_said(letter) | {"headers": letter.headers}, indent=1))
    if body is not None:
        body.write_bytes(body_of(get_settings(), letter))
        click.echo(f"Its {letter.size} bytes are in {body}.")


@deadletters.command("replay")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@REASON
@SITE
def replay_command(ids: tuple[str, ...], reason: str | None, site: str | None) -> None:
    """Send clips that were not answered since to their lane again: all of them, or those named."""
    settings = get_settings()
    if ids:
        _refuse_unknown(settings, ids)
    sent = replay(settings, lambda event: _matches(event, ids, reason, site))
    click.echo(f"{sent} {'clip was' if sent == 1 else 'clips were'} sent again.")


def _refuse_unknown(settings: Settings, ids: tuple[str, ...]) -> None:
    known = {one.event.clip_id: one for one in letters(settings)}
    for clip in ids:
        if clip not in known:
            raise Invalid(Reason.BAD_REQUEST, f"There is no dead letter of {clip}; see `soundscape deadletters list`.")
        if known[clip].event.topic not in LANE_TOPICS:
            raise Invalid(Reason.BAD_REQUEST, f"{clip} came from {known[clip].event.topic}, which is no lane: not sent.")


def _said(one: Letter) -> dict[str, Any]:
    return one.event.model_dump(mode="json", exclude={"original"}) | {"bytes": one.size, "answered": one.answered}
