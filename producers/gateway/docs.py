"""What the API's page shows beside the models: bodies and responses with examples."""

from __future__ import annotations

from typing import Any

from producers.gateway.problems import MEDIA_TYPE, TYPES
from producers.gateway.schemas import ClipJson, ClipState, ProblemDocument

DESCRIPTION = """Names the animals in five seconds of forest.

    curl -H "X-API-Key: $KEY" -H "Content-Type: audio/ogg" --data-binary @clip.ogg "http://HOST:PORT/v1/clips?wait=10"

Sound of up to 3 minutes; beyond 15 seconds it is worked off behind the guides' clips. Every error is a problem document (RFC 9457).
"""

_ID = "7f0c2f52-3c55-5a0b-9d39-9b1f8f0a2d10"
_PREDICTED = {
    "clip_id": _ID,
    "state": "predicted",
    "prediction": {
        "release": "birdnet-2.4",
        "release_digest": "3f" * 32,
        "generation": 1,
        "site": "el-silencio",
        "licences": ["CC BY-NC-SA 4.0"],
        "windows": [{"start_s": 0.0, "end_s": 5.0, "scores": {"tenwar": 0.87, "gockin": 0.02}, "silent": False}],
        "detections": [
            {
                "label": "tenwar",
                "names": {"scientific": "Leiothlypis peregrina", "en": "Tennessee Warbler", "es": "Reinita verdilla"},
                "taxon": "Aves",
                "confidence": 0.87,
                "threshold": 0.5,
                "unweighted": 0.87,
                "start_s": 0.0,
                "end_s": 5.0,
            }
        ],
        "score_floor": 0.001,
        "left_out": [],
        "stages": {"published": "2026-11-24T11:30:01.002Z", "predicted": "2026-11-24T11:30:01.041Z"},
    },
}


def problem(status: int, reason: str, detail: str) -> dict[str, Any]:
    """An example of a problem document."""
    title = reason.replace("-", " ").capitalize()
    return {"type": TYPES + reason, "title": title, "status": status, "detail": detail, "reason": reason}


def refusal(what: str, example: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI's response of a refusal."""
    return {"description": what, "model": ProblemDocument, "content": {MEDIA_TYPE: {"example": example}}}


_DEAD = {"clip_id": _ID, "state": "dead", "problem": problem(422, "truncated", "The file ends in the middle of its sound.")}

RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "Predicted", "model": ClipState, "content": {"application/json": {"example": _PREDICTED}}},
    202: {
        "description": "Queued: the broker has it, the answer is yet to come",
        "model": ClipState,
        "content": {"application/json": {"example": {"clip_id": _ID, "state": "queued"}}},
    },
    400: refusal("A parameter or the JSON does not hold", problem(400, "bad-request", "wait does not hold: at most 30.")),
    401: refusal("The key is missing, wrong or revoked", problem(401, "unauthorized", "X-API-Key is missing.")),
    403: refusal("The key serves another site, or is a labeler's", problem(403, "forbidden", "The key serves 'el-silencio' alone.")),
    404: refusal("Nobody knows the clip", problem(404, "not-found", "Nobody knows that clip.")),
    410: refusal("The answer has left the log", problem(410, "gone", "Its answer has left the log; send the clip again.")),
    413: refusal("Too large", problem(413, "too-large", "The body has more than 64000000 bytes.")),
    415: refusal("Neither sound nor JSON nor log-mels", problem(415, "unsupported-media-type", "text/plain is not taken.")),
    422: {
        "description": "Refused at the door, or dead after it was queued. What died of `model-unavailable` is queued again by itself when "
        "the model answers; of `no-release` or `release-invalid`, when it is sent again to a site that has a release. With any other "
        "reason the same bytes end as they did while the site's release stays",
        "model": ClipState,
        "content": {
            "application/json": {"example": _DEAD},
            MEDIA_TYPE: {"example": problem(422, "not-audio", "The bytes are not OGG, WAV, FLAC or MP3 sound; send one of these.")},
        },
    },
    503: refusal(
        "Not now (Retry-After): no release for the site, a full disk, a long backlog, too many uploads at once, a gateway that has just "
        "started, a broker that does not acknowledge",
        problem(503, "no-release", "No release is deployed for site 'el-silencio'."),
    ),
}
"""Responses of the clip routes by status."""

_BINARY = {"schema": {"type": "string", "format": "binary"}}
POST_BODY: dict[str, Any] = {
    "required": True,
    "description": "The file itself; or JSON with `audio` in base64; or log-mels, float16 (windows, n_mels, frames), with "
    "`X-Feature-Fingerprint`.",
    "content": {
        **{kind: _BINARY for kind in ("audio/ogg", "audio/wav", "audio/flac", "audio/mpeg", "application/x-npy")},
        "application/json": {
            "schema": ClipJson.model_json_schema(),
            "example": {
                "audio": "T2dnUwACAAAAAAAAAAA…",
                "tour_id": "dawn-2026-11-24",
                "recorded_at": "2026-11-24T06:30:00-05:00",
                "wait": 10,
            },
        },
    },
}
"""Bodies of POST /v1/clips."""
