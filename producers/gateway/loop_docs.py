"""What the API's page shows of feedback, tours and explanations: bodies and responses with examples."""

from __future__ import annotations

from typing import Any

from producers.gateway.docs import problem, refusal
from producers.gateway.loop_schemas import FeedbackList, FeedbackSaid, FeedbackTaken, TourEnd, TourEnded, TourStart, TourStarted, body_of
from soundscape.events import TourSummed

Responses = dict[int | str, dict[str, Any]]

_CLIP, _TOUR = "7f0c2f52-3c55-5a0b-9d39-9b1f8f0a2d10", "dawn-2026-11-24"
_SAID = {"feedback_id": "3b2f6a1e-5a5e-4d7c-9a39-6a2c1d9e8f10", "verdict": "species", "labels": ["tenwar"], "note": "Seen on the fence."}
_TAKEN = _SAID | {"clip_id": _CLIP, "place": "feedback:3:17"}
_STARTED = {"tour_id": _TOUR, "site": "el-silencio", "started_at": "2026-11-24T11:30:00Z"}
_ENDED = _STARTED | {"ended_at": "2026-11-24T13:30:00Z", "rating": 5, "note": "Rain after eight."}
_SUMMED = {
    "tour_id": _TOUR,
    "site": "el-silencio",
    "species": ["tenwar"],
    "clips": 12,
    "at": "2026-11-24T11:42:00Z",
    "stream": _TOUR,
    "heard": [{"label": "tenwar", "taxon": "Aves", "status": "confirmed", "clips": 2, "windows": 3, "confidence": 0.87}],
    "started_at": "2026-11-24T11:30:00Z",
    "effort_minutes": 12.0,
    "diversity": 1,
    "diversity_per_hour": 5.0,
    "feedback": 0,
    "by": "ana",
    "releases": ["birdnet-2.4"],
}
_EXPLAINED = {
    "clip_id": _CLIP,
    "clip": {"site": "el-silencio", "stream": _TOUR, "tour_id": _TOUR, "place": "clips:3:4711"},
    "recording": {"content_type": "audio/ogg", "original_type": "audio/wav", "original_rate": 48000, "sha256": "3f" * 32, "bytes": 41200},
    "gone": False,
    "features": ["3f0c2d6a9b8e7f10"],
    "release": {"name": "birdnet-2.4", "digest": "3f" * 32, "licences": ["CC BY-NC-SA 4.0"], "generation": 1, "role": "champion"},
    "members": [{"name": "birdnet", "weight": 1.0, "left_out": None}],
    "windows": [{"start_s": 0.0, "end_s": 5.0, "silent": False, "scores": {"tenwar": 0.87}, "members": {"birdnet": {"tenwar": 0.87}}}],
    "prior": {"tenwar": 1.0},
    "thresholds": {"tenwar": 0.5},
    "stages": [{"stage": "published", "at": "2026-11-24T11:30:01.002+00:00", "ms": None}],
    "feedback": [],
    "labels": [],
    "tour": _SUMMED,
    "tour_before": None,
    "tour_after": {**_SUMMED, "clips": 1},
    "contributed": [
        {
            "label": "tenwar", "before": None, "after": "provisional", "status": "confirmed", "by_person": False, "clips": 2,
            "best_of_tour": True,
        }
    ],
    "shadows": [],
}
_KEYS: Responses = {
    401: refusal("The key is missing, wrong or revoked", problem(401, "unauthorized", "X-API-Key is missing.")),
    403: refusal("The key's role or site does not allow it", problem(403, "forbidden", "The key is a labeler's; use a guide's.")),
}
_FORMS: Responses = {
    400: refusal("The JSON does not hold", problem(400, "bad-request", "verdict does not hold: it is missing.")),
    413: refusal("Too large", problem(413, "too-large", "The body has more than 65536 bytes; say less.")),
    415: refusal("No JSON", problem(415, "unsupported-media-type", "Content-Type text/plain is not taken; send application/json.")),
}
_CLIPS: Responses = {
    404: refusal("Nobody knows the clip, or it is somebody else's", problem(404, "not-found", "Nobody knows that clip.")),
    409: refusal("No answer, a newer one, or an id of another judgement", problem(409, "not-answered", "It is queued.")),
    410: refusal("Clip or answer have left the log", problem(410, "gone", "The clip has left the log; it can be judged no more.")),
}
_NOT_NOW: Responses = {
    503: refusal("Not now (Retry-After): a full disk, a broker that does not acknowledge, a gateway that just started",
                 problem(503, "starting", "The gateway is reading feedback; ask again in a moment.")),
}  # fmt: skip
_TOURS: Responses = {404: refusal("Nobody knows the tour, or it is somebody else's", problem(404, "not-found", "Nobody knows that tour."))}


def _said(what: str, example: object, model: Any = None) -> dict[str, Any]:
    return {"description": what, "content": {"application/json": {"example": example}}} | ({"model": model} if model else {})


FEEDBACK_BODY = body_of(FeedbackSaid, _SAID)
FEEDBACK_RESPONSES: Responses = {
    200: _said("The judgement is on the log", _TAKEN, FeedbackTaken),
    **_KEYS,
    **_FORMS,
    **_CLIPS,
    422: refusal("A label that no release of the site knows", problem(422, "unknown-species", "No species has the label 'dodo'.")),
    429: refusal("Too many judgements of one clip by one key", problem(429, "too-many", "20 judgements of this key stand for the clip.")),
    **_NOT_NOW,
}
LIST_RESPONSES: Responses = {200: _said("What stands", {"clip_id": _CLIP, "feedback": []}, FeedbackList), **_KEYS, **_CLIPS, **_NOT_NOW}
START_BODY, END_BODY = body_of(TourStart, {"tour_id": _TOUR}), body_of(TourEnd, {"rating": 5, "note": "Rain after eight."})
START_RESPONSES: Responses = {
    200: _said("The key started it before", _STARTED, TourStarted),
    201: _said("Started", _STARTED, TourStarted),
    **_KEYS,
    **_FORMS,
    409: refusal("Another key's tour, or another site's", problem(409, "tour-exists", "There is another tour of that name.")),
    **_NOT_NOW,
}
END_RESPONSES: Responses = {200: _said("Ended", _ENDED, TourEnded), **_KEYS, **_FORMS, **_TOURS, **_NOT_NOW}
TOUR_RESPONSES: Responses = {200: _said("What it has heard so far", _SUMMED, TourSummed), **_KEYS, **_TOURS, **_NOT_NOW}
EVENTS_RESPONSES: Responses = {
    200: {
        "description": "Server-sent events: `data` is the whole summary, `id` its place on the log; a comment while nothing changes",
        "content": {"text/event-stream": {"example": 'data: {"tour_id": "dawn-2026-11-24", "clips": 12}\nid: 3-17\n\n'}},
    },
    **_KEYS,
    **_TOURS,
    **_NOT_NOW,
}
EXPLANATION_RESPONSES: Responses = {200: _said("All that is known", _EXPLAINED), **_KEYS, **_CLIPS, **_NOT_NOW}
