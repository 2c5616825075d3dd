"""The answer that somebody saw: a clip that a key may see and judge, with where both lie."""

from __future__ import annotations

from typing import NamedTuple

from producers.gateway.answers import Known
from producers.gateway.door import serves
from producers.gateway.problems import Problem
from producers.gateway.services import Services
from soundscape.errors import Invalid, Unavailable
from soundscape.events import ClipAnalysed, ClipRecorded, Place
from soundscape.keys import Key
from soundscape.wire import PREFIX, decode, texts


class Seen(NamedTuple):
    """A clip's effective answer and where it lies."""

    answer: ClipAnalysed
    place: Place


async def older(services: Services, clip_id: str) -> Known | None:
    """What others know of the clip; its answer is kept here from now on. Raises Unavailable, Problem (410)."""
    known = await services.lookup.find(clip_id)
    if known is not None and known.state == "predicted":
        services.answers.learned(clip_id, known)
    return known


async def state_of(services: Services, clip_id: str) -> Known | None:
    """What is known of the clip: an answer is taken from here, and from the board where here it is still queued.

    The board follows the log by itself, so it knows an answer that this process has not read. A death is taken from here alone: the
    board's may be of before the clip was sent again. Raises Unavailable, Problem (410) for a clip that is not known here.
    """
    here = services.answers.get(clip_id)
    if here is not None and here.state != "queued":
        return here
    try:
        there = await older(services, clip_id)
    except (Unavailable, Problem):
        if here is None:
            raise
        return here
    return there if here is None or (there is not None and there.state == "predicted") else here


async def seen(services: Services, key: Key, clip_id: str) -> Seen:
    """The answer of a clip that the key may judge.

    Raises Unavailable; Problem: 404 for a clip that nobody knows or that is somebody else's, 409 for one without an answer, 410 where
    the answer has left the log.
    """
    known = await state_of(services, clip_id)
    if known is None or not serves(key, known.site):
        raise unknown(clip_id)
    if known.state != "predicted" or known.place is None:
        why = f"it could not be answered ({known.reason})" if known.state == "dead" else "it is queued; wait for its answer first"
        raise Problem(409, "not-answered", f"There is no answer of the clip {clip_id}: {why}.")
    answer = decode(ClipAnalysed, known.headers or [], known.value)
    if not mine(key, answer):
        raise unknown(clip_id)
    return Seen(answer, known.place)


def mine(key: Key, answer: ClipAnalysed) -> bool:
    """Whether the clip is one that the key's holder walked by: a tour's or a recorder's of the site, or an upload of the key itself."""
    if not serves(key, answer.site):
        return False
    if key.role == "operator":
        return True
    return not answer.probe and (answer.tour_id is not None or answer.recorder is not None or answer.stream == key.name)


async def recording(services: Services, answer: ClipAnalysed) -> ClipRecorded | None:
    """The clip itself, or None where the log has lost it or another clip lies there now. Raises Unavailable."""
    record = await services.log.read(answer.place)
    if record is None or texts(record.headers).get(PREFIX + "id") != str(answer.clip_id):
        return None
    try:
        return decode(ClipRecorded, record.headers, record.value)
    except Invalid:
        return None


def unknown(clip_id: str) -> Problem:
    """Nobody knows the clip, or it is no business of the key's: the two are told alike."""
    return Problem(404, "not-found", f"Nobody knows a clip {clip_id} that this key may see; send it to POST /v1/clips.")
