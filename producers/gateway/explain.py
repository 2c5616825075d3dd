"""Why did I get this? The gateway gathers what it knows of a clip and says it whole."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from fastapi import APIRouter

from producers.explanation import DENIED, Evidence, explanation, tour_id_of
from producers.gateway.door import Given, Guide
from producers.gateway.loop_docs import EXPLANATION_RESPONSES
from producers.gateway.problems import Problem
from producers.gateway.seen import recording, seen
from soundscape.topics import FEEDBACK, LABELS, TOUR_EVENTS, TOURS

router = APIRouter(tags=["clips"])


@router.get("/v1/clips/{clip_id}/explanation", responses=EXPLANATION_RESPONSES)
async def get_explanation(clip_id: UUID, key: Guide, services: Given) -> dict[str, Any]:
    """Recording, features, release, each member's scores, weights, thresholds, judgements, tour, and the time at each stage."""
    clip, log = str(clip_id), services.log
    for topic in (FEEDBACK, LABELS, TOUR_EVENTS, TOURS):
        services.reports.require(topic.name)
    one = await seen(services, key, clip)
    if clip in services.labels.denied:
        raise Problem(410, "speech", DENIED)
    tour = await services.tours.newest(tour_id_of(one.answer), log)
    found = Evidence(
        answer=one.answer,
        place=one.place,
        clip=await recording(services, one.answer),
        release=await services.sites.named(one.answer.site, one.answer.release, one.answer.release_digest),
        feedback=await services.feedback.read(services.feedback.standing(clip), log),
        labels=await services.labels.of(clip, log),
        tour=tour.summed if tour is not None and tour.summed.site == one.answer.site else None,
        rows=await services.rows.of(tour_id_of(one.answer)),
        shadows=await services.shadows.of(clip, log),
    )
    return await asyncio.to_thread(explanation, found)  # three minutes over thousands of labels take a while
