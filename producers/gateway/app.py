"""The HTTP of the gateway: routes, keys, and the way of one request."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import ExitStack
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from producers.gateway import explain, feedback, problems, tours
from producers.gateway.answers import Known
from producers.gateway.body import SMALL, kind_of, parse_json, read_body
from producers.gateway.docs import DESCRIPTION, POST_BODY, RESPONSES
from producers.gateway.door import Authorised, Given, Guide, serves, site_of
from producers.gateway.intake import Prepared, lane_of, prepare_log_mels, prepare_sound, recorded
from producers.gateway.problems import Problem
from producers.gateway.schemas import Asked, ClipState, SpeciesEntry, SpeciesList, Told, prediction_of
from producers.gateway.seen import state_of, unknown
from producers.gateway.services import Services
from soundscape.audio import sha256
from soundscape.errors import Unavailable
from soundscape.events import ClipAnalysed, ClipRecorded, Name, Names
from soundscape.events import clip_id as identity
from soundscape.keys import Key
from soundscape.metrics import ANSWER_SECONDS, CLIPS_IN, CLIPS_OUT, STAGE_SECONDS
from soundscape.topics import DEAD_LETTERS, LANES, PREDICTIONS, TOUR_EVENTS
from soundscape.wire import decode, encode

TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context; anything else is not passed on."""


def create_app(services: Services) -> FastAPI:
    """The application around its services."""
    app = FastAPI(title="El Silencio Acoustic Explorer", version="1", description=DESCRIPTION)
    app.state.services = services
    for part in (router, feedback.router, tours.router, explain.router):
        app.include_router(part)
    problems.install(app)
    return app


router = APIRouter()


@router.get("/healthz", tags=["process"])
async def healthz(services: Given) -> JSONResponse:
    """Whether this process does its work, and why not."""
    said = services.reports.health()
    return JSONResponse(said, 200 if said["healthy"] else 503)


@router.get("/readyz", tags=["process"])
async def readyz(services: Given) -> JSONResponse:
    """Whether a clip sent now would be taken."""
    said = services.reports.readiness()
    return JSONResponse(said, 200 if said["ready"] else 503)


@router.get("/metrics", include_in_schema=False)
async def metrics() -> Response:
    """What Prometheus reads."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@router.post("/v1/clips", tags=["clips"], openapi_extra={"requestBody": POST_BODY}, responses=RESPONSES, response_model=ClipState)
async def post_clip(request: Request, query: Annotated[Told, Query()], key: Guide, services: Given) -> JSONResponse:
    """Send a clip; with `wait`, have its species in the same response.

    A clip is the same clip when site, stream, `recorded_at` and bytes are the same: sent again, its answer comes at once.
    """
    started = time.perf_counter()
    with ExitStack() as until_answered:
        taken = await _take(request, query, key, services, until_answered)
        known = taken.known or await wait_for(taken.answer, taken.told.wait) or Known("queued", None)
    if known.state == "predicted" and taken.known is None:
        ANSWER_SECONDS.observe(time.perf_counter() - started)
    return respond(taken.clip_id, known, taken.told.scores)


class Taken(NamedTuple):
    """A clip that was sent: its id, what was told of it, its answer if there was one already, and the answer to come."""

    clip_id: str
    told: Told
    known: Known | None
    answer: asyncio.Future[Known]


async def _take(request: Request, query: Told, key: Key, services: Services, until_answered: ExitStack) -> Taken:
    """Read a clip, and publish it unless it is answered or queued. Nobody holds its bytes afterwards, however long its answer takes."""
    kind = kind_of(request.headers.get("content-type", ""))
    with services.room.claim() as claim:
        body, told = await read_body(request, kind, claim), query
        if kind == "json":
            said, body = await parse_json(body)
            told = query.model_copy(update=said)
        site, stream = site_of(key, told.site), told.tour_id or key.name
        services.sites.require(site)
        owner = services.tours.started(told.tour_id) if told.tour_id else None
        if owner is not None and owner.start.site != site:  # an ended one takes clips all the same: a phone sends late
            raise Problem(403, "forbidden", f"The tour {told.tour_id!r} belongs to another site; send the clip with a tour of {site!r}.")
        prepared: Prepared | None = None
        if kind == "log-mels":  # checked even if these bytes are answered: their fingerprint is no part of a clip's identity
            fingerprint = request.headers.get("x-feature-fingerprint")
            prepared = prepare_log_mels(body, fingerprint, services.sites.release(site).features)
        digest = await asyncio.to_thread(sha256, body) if len(body) > SMALL else sha256(body)
        clip_id = identity(site, stream, told.recorded_at, digest)

        answer = until_answered.enter_context(services.answers.expect(clip_id))
        before = services.answers.get(clip_id)
        known = await _remembered(services, clip_id)
        if known is not None and known.state == "predicted":
            return Taken(clip_id, told, known, answer)
        if before is None or before.state == "dead":
            _check_room(services)
            prepared = prepared or await prepare_sound(body, services.children)
            tour = services.tours.started(told.tour_id) if told.tour_id else None
            event = recorded(prepared, clip_id, digest, site, stream, told, traceparent(request), tour.start.at if tour else None)
            await _publish(services, event, lane_of(prepared.seconds))
            services.answers.queued(clip_id, site, before)
        return Taken(clip_id, told, None, answer)


async def _remembered(services: Services, clip_id: str) -> Known | None:
    """What is known of a clip that can be analysed again: a board that is away, or an answer that is gone, means no more than that."""
    try:
        return await state_of(services, clip_id)
    except (Unavailable, Problem):
        return None


def _check_room(services: Services) -> None:
    """Raise Problem (503) where a clip could not be kept or answered whatever its length, which decoding alone may tell."""
    for topic in (PREDICTIONS, DEAD_LETTERS, TOUR_EVENTS):  # who has not read these may miss the answer, or when the tour started
        services.reports.require(topic.name)
    services.guard.check_disk()
    try:
        services.guard.check_backlog("live")
    except Problem:
        services.guard.check_backlog("bulk")


async def _publish(services: Services, event: ClipRecorded, lane: Literal["live", "bulk"]) -> None:
    services.guard.check_backlog(lane)
    with STAGE_SECONDS.labels(lane, "acknowledged").time():
        await services.publisher.publish(LANES[lane].name, encode(event))
    CLIPS_IN.labels("gateway", lane).inc()


@router.get("/v1/clips/{clip_id}", tags=["clips"], responses=RESPONSES, response_model=ClipState)
async def get_clip(clip_id: UUID, query: Annotated[Asked, Query()], key: Guide, services: Given) -> JSONResponse:
    """Where a clip is, and its answer; `wait` waits for it."""
    name = str(clip_id)
    with services.answers.expect(name) as answer:
        known = await state_of(services, name)
        if known is None or not serves(key, known.site):
            raise unknown(name)
        if known.state == "queued":
            known = await wait_for(answer, query.wait) or known
    return respond(name, known, query.scores)


@router.get("/v1/species", tags=["species"], responses={503: RESPONSES[503]}, response_model=SpeciesList)
async def get_species(
    key: Authorised,
    services: Given,
    site: Annotated[Name | None, Query(description="The key's own unless given")] = None,
    lang: Annotated[Literal["en", "es", "scientific"], Query(description="Language of `name`")] = "en",
) -> SpeciesList:
    """What the release of a site can name."""
    chosen = site_of(key, site)
    release = services.sites.release(chosen)
    entries = [
        SpeciesEntry(
            label=one.label,
            name=getattr(one, lang),
            names=Names(scientific=one.scientific, en=one.en, es=one.es),
            taxon=one.taxon,
        )
        for one in release.labels
    ]
    return SpeciesList(site=chosen, release=release.name, species=entries)


def traceparent(request: Request) -> str | None:
    """The caller's trace, if it is one."""
    said = request.headers.get("traceparent", "")
    return said if TRACEPARENT.fullmatch(said) else None


async def wait_for(answer: asyncio.Future[Known], seconds: float) -> Known | None:
    """The answer, or None at the deadline, or when the process ends."""
    if seconds > 0:
        await asyncio.wait({answer}, timeout=seconds)
    return answer.result() if answer.done() and not answer.cancelled() else None


def respond(clip_id: str, known: Known, scores: Literal["top", "all"]) -> JSONResponse:
    """The response for a clip: 200 predicted, 422 dead, 202 queued."""
    said: dict[str, Any] = {"clip_id": clip_id, "state": known.state}
    where = {"Location": f"/v1/clips/{clip_id}"}
    if known.state == "predicted":
        event = decode(ClipAnalysed, known.headers or [], known.value)
        CLIPS_OUT.labels("gateway", "bulk" if event.place.topic == LANES["bulk"].name else "live").inc()
        return JSONResponse(said | {"prediction": prediction_of(event, scores)}, 200, where)
    if known.state == "dead":
        detail = known.detail or "The clip could not be answered."
        return JSONResponse(said | {"problem": Problem(422, known.reason, detail).body()}, 422, where)
    return JSONResponse(said, 202, where)
