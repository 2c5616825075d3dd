"""What a request may say and what a response says: the models behind OpenAPI."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from soundscape.events import Client, ClipAnalysed, Fusion, Latitude, Longitude, Name, Names

LONGEST_WAIT_S = 30.0
"""Seconds that a request may wait for its answer."""
BEST = 10
"""Scores of each window that are said unless all are asked for."""
EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""When a recording can have been made: a clock that says otherwise is wrong."""
_PLUS = re.compile(r"(T[\d:.,]+) (\d\d:?\d\d)$")


def _unescaped(text: object) -> object:
    """A `+` that a client did not escape arrives as a space."""
    return _PLUS.sub(r"\1+\2", text) if isinstance(text, str) else text


class Asked(BaseModel):
    """How an answer is wanted. What else a question for a clip says is passed over: a client may repeat what it said with the clip."""

    wait: float = Field(0.0, ge=0, le=LONGEST_WAIT_S, description="Seconds to wait for the answer; 0 answers 202 at once")
    scores: Literal["top", "all"] = Field("top", description=f"`top`: the {BEST} highest of each window; `all`: every one")


class Told(Asked):
    """What may be told about a clip, as query parameters or as JSON fields. A misspelt one is refused, not lost."""

    model_config = ConfigDict(extra="forbid")

    site: Name | None = Field(None, description="Site whose model answers; the key's own unless given")
    tour_id: Name | None = Field(None, description="Tour that the clip belongs to: its clips are answered in order")
    recorded_at: Annotated[AwareDatetime, BeforeValidator(_unescaped), Field(ge=EARLIEST, lt=LATEST)] | None = Field(
        None, description="When it was recorded, with an offset", examples=["2026-11-24T06:30:00-05:00"]
    )
    latitude: Latitude | None = Field(None, description="Degrees north", examples=[6.76])
    longitude: Longitude | None = Field(None, description="Degrees east", examples=[-74.21])
    lang: Literal["en", "es", "scientific"] | None = Field(None, description="The guide's language; kept with the clip")
    client: Client | None = Field(None, description="What kind of user sends it: a guide, a power user, a phone with a bad connection")


class ClipJson(Told):
    """A clip as JSON; a field said here goes before the same one in the query."""

    audio: str = Field(description="The file's bytes in base64", examples=["T2dnUwACAAAAAAAAAAA…"])


class HeardDetection(BaseModel):
    """A species heard in consecutive windows above its threshold."""

    label: str
    names: Names
    taxon: str
    confidence: float
    threshold: float
    unweighted: float
    start_s: float
    end_s: float


class HeardWindow(BaseModel):
    """Five seconds of the clip."""

    start_s: float
    end_s: float
    scores: dict[str, float]
    events: dict[str, float]
    silent: bool


class Prediction(BaseModel):
    """What a release heard in a clip."""

    release: str
    release_digest: str
    generation: int
    site: str
    licences: tuple[str, ...]
    windows: list[HeardWindow]
    detections: list[HeardDetection]
    score_floor: float
    left_out: list[dict[str, str]]
    calibrated: bool
    fusion: Fusion | None = None
    """How the members' scores became one; null where the release has one member."""
    stages: dict[str, str | None]


class ProblemDocument(BaseModel):
    """RFC 9457: what was wrong and what to do."""

    type: str
    title: str
    status: int
    detail: str
    reason: str


class ClipState(BaseModel):
    """Where a clip is, with its answer if there is one."""

    clip_id: str
    state: Literal["queued", "predicted", "dead"]
    prediction: Prediction | None = None
    problem: ProblemDocument | None = None


class SpeciesEntry(BaseModel):
    """One label of a model."""

    label: str
    name: str
    """In the language asked for."""
    names: Names
    taxon: str


class SpeciesList(BaseModel):
    """What a site's release can name, in the order of its labels."""

    site: str
    release: str
    species: list[SpeciesEntry]


def prediction_of(event: ClipAnalysed, scores: Literal["top", "all"]) -> dict[str, Any]:
    """The answer as it is said over HTTP; made by hand, since the events are validated already and a guide waits."""
    stages = event.stages.model_dump(mode="json")
    return {
        "release": event.release,
        "release_digest": event.release_digest,
        "generation": event.generation,
        "site": event.site,
        "licences": event.licences,
        "windows": [
            {
                "start_s": window.start_s,
                "end_s": window.end_s,
                "scores": _said(event.labels, window.scores, scores),
                "events": window.events,
                "silent": window.silent,
            }
            for window in event.windows
        ],
        "detections": [detection.model_dump(mode="json") for detection in event.detections],
        "score_floor": event.score_floor,
        "left_out": [one.model_dump() for one in event.left_out],
        "calibrated": event.calibrated,
        "fusion": event.fusion.model_dump(mode="json") if event.fusion else None,
        "stages": stages,
    }


def _said(labels: tuple[str, ...], values: tuple[float, ...], scores: Literal["top", "all"]) -> dict[str, float]:
    """Scores by label, highest first."""
    order = sorted(range(len(labels)), key=lambda n: (-values[n], labels[n]))
    return {labels[n]: values[n] for n in (order if scores == "all" else order[:BEST])}
