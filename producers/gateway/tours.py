"""A guide's tour: started, ended, and what it has heard so far, once or as it comes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.sse import EventSourceResponse

from producers.gateway.body import read_form
from producers.gateway.door import Given, Guide, serves, site_of
from producers.gateway.loop_docs import END_BODY, END_RESPONSES, EVENTS_RESPONSES, START_BODY, START_RESPONSES, TOUR_RESPONSES
from producers.gateway.loop_schemas import TourEnd, TourEnded, TourStart, TourStarted
from producers.gateway.problems import Problem
from producers.gateway.services import Services
from producers.gateway.touring import Started, Summary
from soundscape.errors import Reason
from soundscape.events import Name, TourMoved
from soundscape.keys import Key
from soundscape.topics import TOUR_EVENTS, TOURS
from soundscape.wire import encode

DAY = re.compile(r".*@\d{4}-\d{2}-\d{2}")
"""Names of recorders' days, which no guide starts."""
TourId = Annotated[Name, Path(description="A tour, or a recorder's day as STREAM@YYYY-MM-DD")]
router = APIRouter(tags=["tours"])


@router.post("/v1/tours", openapi_extra=START_BODY, responses=START_RESPONSES, response_model=TourStarted, status_code=201)
async def post_tour(request: Request, key: Guide, services: Given) -> JSONResponse:
    """Start a tour; its clips are sent with the `tour_id`. Started again by the same key it is the same tour."""
    said = await read_form(request, TourStart)
    _require(services)
    tour_id, site = said.tour_id or str(uuid4()), site_of(key, said.site)
    services.sites.require(site)
    if tour_id in (".", ".."):
        raise Problem(400, str(Reason.BAD_REQUEST), "tour_id does not hold: a client could not name it in a path.")
    if DAY.fullmatch(tour_id):
        raise Problem(400, str(Reason.BAD_REQUEST), "tour_id does not hold: names that end in @DATE are recorders' days.")
    async with services.locks(f"tour {tour_id}"):
        known = services.tours.started(tour_id)
        if known is not None:
            if (known.start.by, known.start.site) != (key.name, site):
                raise Problem(409, "tour-exists", f"There is another tour {tour_id!r}; choose another name, or send none.")
            return JSONResponse(_started(known), 200)
        heard = await services.tours.newest(tour_id, services.log)
        if heard is not None and heard.summed.site != site:
            raise Problem(409, "tour-exists", f"There is another tour {tour_id!r}; choose another name, or send none.")
        event = TourMoved(tour_id=tour_id, site=site, what="started", by=key.name, at=said.started_at or datetime.now(UTC))
        known = await _publish(services, event)
    return JSONResponse(_started(known), 201, {"Location": f"/v1/tours/{tour_id}"})


@router.post("/v1/tours/{tour_id}/end", openapi_extra=END_BODY, responses=END_RESPONSES, response_model=TourEnded)
async def post_end(request: Request, tour_id: TourId, key: Guide, services: Given) -> JSONResponse:
    """End a tour, with a rating and a note; said again it changes what it says anew."""
    said = await read_form(request, TourEnd)
    _require(services)
    async with services.locks(f"tour {tour_id}"):
        known = services.tours.started(tour_id)
        if known is None or known.start.by != key.name:
            raise _unknown(tour_id, "started")
        before = known.end
        event = TourMoved(
            tour_id=tour_id,
            site=known.start.site,
            what="ended",
            by=key.name,
            rating=said.rating if "rating" in said.model_fields_set or before is None else before.rating,
            note=said.note if "note" in said.model_fields_set or before is None else before.note,
            at=said.ended_at or (before.at if before else datetime.now(UTC)),
        )
        if event.at < known.start.at:
            raise Problem(400, str(Reason.BAD_REQUEST), f"ended_at does not hold: the tour started at {known.start.at.isoformat()}.")
        if event != before:
            known = await _publish(services, event)
    return JSONResponse(_ended(known))


@router.get("/v1/tours/{tour_id}", responses=TOUR_RESPONSES)
async def get_tour(tour_id: TourId, key: Guide, services: Given) -> Response:
    """What a tour, or a recorder's day, has heard so far."""
    return Response((await _visible(services, key, tour_id)).body, media_type="application/json")


async def _connection(services: Given, key: Guide) -> AsyncIterator[None]:
    """Held until the response has ended, however it does. Raises Problem (503)."""
    with services.tours.connection():
        yield


@router.get(
    "/v1/tours/{tour_id}/events",
    responses=EVENTS_RESPONSES,
    dependencies=[Depends(_connection)],
    response_class=StreamingResponse,  # EventSourceResponse would have FastAPI drive a generator, and say 200 before a 404 is known
)
async def get_events(request: Request, tour_id: TourId, key: Guide, services: Given) -> EventSourceResponse:
    """The whole summary as server-sent events whenever it changes, at most one a second; the newest at once, whatever came last."""
    await _visible(services, key, tour_id)
    sent = request.headers["x-api-key"]

    stream = services.tours.watch(tour_id, services.log, lambda: services.keys.find(sent) is not None)
    return EventSourceResponse(stream, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})


def _require(services: Services) -> None:
    for topic in (TOUR_EVENTS, TOURS):
        services.reports.require(topic.name)


async def _visible(services: Services, key: Key, tour_id: str) -> Summary:
    """The newest summary of a tour of the key's site. Raises Problem (404, 503), Unavailable."""
    _require(services)
    found = await services.tours.newest(tour_id, services.log)
    if found is None or not serves(key, found.summed.site):
        raise _unknown(tour_id, "may see")
    return found


def _unknown(tour_id: str, what: str) -> Problem:
    return Problem(404, "not-found", f"Nobody knows a tour {tour_id!r} that this key {what}; start one with POST /v1/tours.")


async def _publish(services: Services, event: TourMoved) -> Started:
    services.guard.check_disk()
    place = await services.publisher.publish(TOUR_EVENTS.name, encode(event))
    services.tours.took(event, place)
    known = services.tours.started(event.tour_id)
    assert known is not None
    return known


def _started(known: Started) -> dict[str, object]:
    start = known.start
    return TourStarted(tour_id=start.tour_id, site=start.site, started_at=start.at).model_dump(mode="json")


def _ended(known: Started) -> dict[str, object]:
    start, end = known.start, known.end
    assert end is not None
    said = TourEnded(tour_id=start.tour_id, site=start.site, started_at=start.at, ended_at=end.at, rating=end.rating, note=end.note)
    return said.model_dump(mode="json")
