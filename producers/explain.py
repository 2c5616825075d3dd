"""`soundscape explain`: why a clip was answered as it was, read from the board and the log; it needs no key and no gateway."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from soundscape.errors import Invalid, Reason, Unavailable
from soundscape.settings import HOST, Port, Settings, get_settings

if TYPE_CHECKING:
    from producers.explanation import Evidence
    from soundscape.events import ClipAnalysed, Place

BOARD_S = 10.0
"""Seconds for one answer of Redis."""
POLL_MS = 500


@click.command()
@click.argument("clip_id", type=click.UUID)
@click.option("--json", "as_json", is_flag=True, help="All of it as one JSON document.")
def explain(clip_id: UUID, as_json: bool) -> None:
    """Why a clip was answered as it was: recording, features, release, scores, judgements, tour, and the time at each stage."""
    from producers.explanation import explanation
    from producers.explanation_text import show

    said = explanation(gather(get_settings(), str(clip_id)))
    if as_json:
        click.echo(json.dumps(said, ensure_ascii=False))
    else:
        show(said)


def gather(settings: Settings, clip_id: str) -> Evidence:
    """What is known of a clip. Raises Unavailable; Invalid for a clip that is unknown, unanswered, past retention or denied."""
    from dataclasses import replace

    from producers.explanation import Evidence
    from soundscape.clip_reader import ClipReader
    from soundscape.release import named_release

    place = _answer_place(settings, clip_id)
    answer = _answer(settings, place, clip_id)
    with ClipReader(settings) as reader:
        clip = reader.read(answer.place, clip_id)
    found = Evidence(answer, place, clip)
    try:
        release = named_release(settings.releases, answer.release, answer.release_digest)
    except (Invalid, OSError):  # it is not here any more; the answer says enough without it
        release = None
    return replace(_said(settings, found), release=release)


def _answer_place(settings: Settings, clip_id: str) -> Place:
    """Where the board says that the effective answer lies."""
    import redis

    from soundscape.board import clip_key
    from soundscape.events import Place

    client: Any = redis.Redis(host=HOST, port=settings.port(Port.REDIS), decode_responses=True, socket_timeout=BOARD_S)
    try:
        fields = client.hgetall(clip_key(clip_id))
    except (redis.RedisError, OSError) as error:
        raise Unavailable("The board does not answer; is the stack up? `soundscape status` says.") from error
    finally:
        client.close()
    if not fields:
        raise _refused(f"Nobody knows a clip {clip_id}.")
    if "predicted" not in fields:
        why = f"it died ({fields.get('reason')}); see `soundscape deadletters show {clip_id}`" if "dead" in fields else "it is queued"
        raise _refused(f"There is no answer of the clip {clip_id}: {why}.")
    topic, partition, offset = fields["predicted"].rsplit(":", 2)
    return Place(topic=topic, partition=int(partition), offset=int(offset))


def _answer(settings: Settings, place: Place, clip_id: str) -> ClipAnalysed:
    """The answer that lies there, if it is this clip's."""
    from soundscape.events import ClipAnalysed
    from soundscape.wire import decode

    record = _record(settings, place)
    try:
        answer = None if record is None else decode(ClipAnalysed, record.headers, record.value)
    except Invalid:
        answer = None
    if answer is None or str(answer.clip_id) != clip_id:
        raise _refused(f"The answer of the clip {clip_id} has left the log.")
    return answer


def _record(settings: Settings, place: Place) -> Any | None:
    """The record at a place, or None if it is gone. Raises Unavailable."""
    from kafka import TopicPartition

    from soundscape.kafka import LIMIT_S, broker_errors, new_consumer

    part, consumer = TopicPartition(place.topic, place.partition), new_consumer(settings, max_poll_records=1)
    try:
        with broker_errors():
            first, end = consumer.beginning_offsets([part])[part], consumer.end_offsets([part])[part]
            if not first <= place.offset < end:
                return None
            consumer.assign([part])
            consumer.seek(part, place.offset)
            deadline = time.monotonic() + LIMIT_S
            while time.monotonic() < deadline:
                for record in consumer.poll(POLL_MS).get(part, []):
                    return record if record.offset == place.offset else None
    finally:
        consumer.close()
    raise Unavailable(f"The broker did not send {place} within {LIMIT_S} s.")


def _said(settings: Settings, found: Evidence) -> Evidence:
    """With what people, its tour and other releases say of the clip. Raises Invalid for a clip in which somebody heard a person."""
    from dataclasses import replace

    from producers.evidence import TOPICS, collect
    from producers.explanation import DENIED, tour_id_of
    from producers.tour_past import rows_of
    from soundscape.kafka import new_consumer, read_all

    consumer = new_consumer(settings)
    try:
        said = collect(read_all(consumer, [topic.name for topic in TOPICS]), str(found.answer.clip_id), tour_id_of(found.answer))
    finally:
        consumer.close()
    if any(label.verdict == "speech" for label in said.labels):
        raise _refused(DENIED)
    tour = said.tour if said.tour is not None and said.tour.site == found.answer.site else None
    rows = rows_of(settings, tour_id_of(found.answer))
    return replace(found, feedback=said.feedback, labels=said.labels, shadows=said.shadows, tour=tour, rows=rows)


def _refused(detail: str) -> Invalid:
    return Invalid(Reason.BAD_REQUEST, detail)
