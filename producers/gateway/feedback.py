"""A guide's judgement of an answer: right, wrong, it was SPECIES, unknown; changed and withdrawn by its id."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from producers.explanation import DENIED
from producers.gateway.body import read_form
from producers.gateway.door import Given, Guide, serves
from producers.gateway.loop_docs import FEEDBACK_BODY, FEEDBACK_RESPONSES, LIST_RESPONSES
from producers.gateway.loop_schemas import FeedbackList, FeedbackSaid, FeedbackTaken
from producers.gateway.problems import Problem
from producers.gateway.seen import Seen, older, recording, seen, unknown
from producers.gateway.services import Services
from producers.gateway.standing import digest_of
from soundscape.errors import Invalid
from soundscape.events import ClipAnalysed, FeedbackGiven, Place
from soundscape.keys import Key
from soundscape.topics import FEEDBACK, LABELS
from soundscape.wire import encode

STANDING = 20
"""Judgements of one clip by one key that may stand: a guide has one, an app that makes a new id for every try has many."""
router = APIRouter(tags=["feedback"])


@router.post("/v1/clips/{clip_id}/feedback", openapi_extra=FEEDBACK_BODY, responses=FEEDBACK_RESPONSES, response_model=FeedbackTaken)
async def post_feedback(request: Request, clip_id: UUID, key: Guide, services: Given) -> JSONResponse:
    """Judge a clip's answer; sent again with the same `feedback_id` it is the same judgement, or changes it."""
    said, clip = await read_form(request, FeedbackSaid), str(clip_id)
    for topic in (FEEDBACK, LABELS):
        services.reports.require(topic.name)
    async with services.locks(f"key {key.name}"), services.locks(f"feedback {said.feedback_id}"):
        found = services.feedback.find(said.feedback_id)
        if found is not None:
            of, before, place = found
            if (of, before.by) != (clip, key.name):
                raise Problem(409, "id-in-use", f"feedback_id {said.feedback_id!r} stands for another judgement; make one of your own.")
            if before.digest == digest_of(said.verdict, said.labels, said.note):
                return _taken(said, clip, place)
        elif said.verdict == "withdrawn":
            await seen(services, key, clip)  # a stranger hears that the clip is unknown
            raise Problem(404, "not-found", f"There is no judgement {said.feedback_id!r} of this clip to withdraw.")
        one = await seen(services, key, clip)
        if clip in services.labels.denied:
            raise Problem(410, "speech", DENIED)
        if await recording(services, one.answer) is None:
            raise Problem(410, "gone", "The clip has left the log; it can be judged no more.")
        _check_release(one.answer, said)
        _check_labels(services, one.answer, said)
        _check_count(services, clip, key, said)
        place = await _publish(services, _event(one, said, key))
    return _taken(said, clip, place)


@router.get("/v1/clips/{clip_id}/feedback", responses=LIST_RESPONSES, response_model=FeedbackList)
async def get_feedback(clip_id: UUID, key: Guide, services: Given) -> FeedbackList:
    """The judgements of a clip that stand: the key's own, or all for an operator; at most the latest 100."""
    clip = str(clip_id)
    services.reports.require(FEEDBACK.name)
    keys = services.feedback.standing(clip, None if key.role == "operator" else key.name)
    if not keys:
        known = services.answers.get(clip) or await older(services, clip)
        if known is None or not serves(key, known.site):
            raise unknown(clip)
    return FeedbackList(clip_id=clip, feedback=await services.feedback.read(keys, services.log))


def _check_release(answer: ClipAnalysed, said: FeedbackSaid) -> None:
    """Raise Problem (409) where the judgement is of an answer that another release has replaced since."""
    if said.release is not None and said.release != answer.release:
        what = f"The clip was answered anew by {answer.release!r} since {said.release!r}"
        raise Problem(409, "answered-anew", f"{what}; look at the new answer, GET /v1/clips/{answer.clip_id}, and judge that.")


def _check_labels(services: Services, answer: ClipAnalysed, said: FeedbackSaid) -> None:
    """Raise Problem (422) for labels that neither the site's champion nor the answer knows."""
    strange = set(said.labels) - set(answer.labels)
    if strange:
        with suppress(Problem, Invalid):  # nothing is deployed now, or it is broken: the answer alone says what there is
            strange -= {one.label for one in services.sites.release(answer.site).labels}
    if strange:
        named = ", ".join(repr(label) for label in sorted(strange)[:5])
        raise Problem(422, "unknown-species", f"No species of site {answer.site!r} has the label {named}; GET /v1/species lists them.")


def _check_count(services: Services, clip: str, key: Key, said: FeedbackSaid) -> None:
    """Raise Problem (429) where too many judgements of this key stand for the clip."""
    others = [one for one in services.feedback.standing(clip, key.name) if one != said.feedback_id]
    if said.verdict != "withdrawn" and len(others) >= STANDING:
        raise Problem(429, "too-many", f"{STANDING} judgements of this key stand for the clip; change or withdraw one of them.")


def _event(one: Seen, said: FeedbackSaid, key: Key) -> FeedbackGiven:
    answer = one.answer
    return FeedbackGiven(
        feedback_id=said.feedback_id,
        clip_id=answer.clip_id,
        stream=answer.stream,
        site=answer.site,
        tour_id=answer.tour_id,
        verdict=said.verdict,
        labels=tuple(dict.fromkeys(said.labels)),
        heard=tuple(dict.fromkeys(detection.label for detection in answer.detections)),
        recorded_at=answer.recorded_at,
        note=said.note,
        release=answer.release,
        clip_place=answer.place,
        answer_place=one.place,
        by=key.name,
        given_at=datetime.now(UTC),
    )


async def _publish(services: Services, event: FeedbackGiven) -> Place:
    services.guard.check_disk()
    message = encode(event)
    place = await services.publisher.publish(FEEDBACK.name, message)
    services.feedback.took(event, place, message.value)
    return place


def _taken(said: FeedbackSaid, clip: str, place: Place) -> JSONResponse:
    taken = FeedbackTaken(
        feedback_id=said.feedback_id,
        clip_id=clip,
        verdict=said.verdict,
        labels=tuple(dict.fromkeys(said.labels)),
        note=said.note,
        place=str(place),
    )
    return JSONResponse(taken.model_dump(mode="json"))
