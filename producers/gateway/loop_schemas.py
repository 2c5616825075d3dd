"""What is said over HTTP about answers and tours: judgements, starts and ends, and what comes back."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from producers.gateway.schemas import EARLIEST, LATEST
from soundscape.events import FeedbackGiven, Name

LONGEST_NOTE = 2000
"""Characters of a note."""
Note = Annotated[str, Field(max_length=LONGEST_NOTE, description="In the guide's own words", examples=["Seen on the fence."])]
Label = Annotated[str, Field(min_length=1, max_length=200)]
Clock = Annotated[AwareDatetime, Field(ge=EARLIEST, lt=LATEST, examples=["2026-11-24T06:30:00-05:00"])]


class FeedbackSaid(BaseModel):
    """A judgement of a clip's answer. The same id says the same judgement again, changes it, or withdraws it."""

    model_config = ConfigDict(extra="forbid")

    feedback_id: Name = Field(
        description="Made by the client: a judgement sent again keeps it", examples=["3b2f6a1e-5a5e-4d7c-9a39-6a2c1d9e8f10"]
    )
    verdict: Literal["right", "wrong", "species", "unknown", "withdrawn"] = Field(
        description="The answer is right; it is wrong; it was `labels`; nobody can tell; or the judgement is taken back"
    )
    labels: tuple[Label, ...] = Field((), max_length=50, description="With `species` alone: what it was", examples=[["tenwar"]])
    note: Note | None = None
    release: Name | None = Field(
        None, description="`release` of the answer that was judged; 409 where another has answered since. The newest answer unless given"
    )

    @model_validator(mode="after")
    def _labels_with_species(self) -> FeedbackSaid:
        if self.verdict == "species" and not self.labels:
            raise PydanticCustomError("labels", "`species` needs labels, those that GET /v1/species lists")
        if self.verdict != "species" and self.labels:
            raise PydanticCustomError("labels", "labels go with `species` alone")
        return self


class FeedbackTaken(BaseModel):
    """A judgement that is on the log."""

    feedback_id: str
    clip_id: str
    verdict: str
    labels: tuple[str, ...]
    note: str | None
    place: str
    """Where it lies: topic:partition:offset."""


class FeedbackList(BaseModel):
    """The judgements of a clip that stand."""

    clip_id: str
    feedback: list[FeedbackGiven]


class TourStart(BaseModel):
    """A tour that begins."""

    model_config = ConfigDict(extra="forbid")

    tour_id: Name | None = Field(None, description="Made here unless given; its clips are sent with it", examples=["dawn-2026-11-24"])
    site: Name | None = Field(None, description="The key's own unless given")
    started_at: Clock | None = Field(None, description="Now unless given")


class TourEnd(BaseModel):
    """A tour that is over. What is left out stays as it was said before."""

    model_config = ConfigDict(extra="forbid")

    rating: int | None = Field(None, ge=1, le=5, strict=True, description="The visitors' word", examples=[5])
    note: Note | None = None
    ended_at: Clock | None = Field(None, description="Now unless given")


class TourStarted(BaseModel):
    """A tour that was started."""

    tour_id: str
    site: str
    started_at: datetime


class TourEnded(TourStarted):
    """A tour that has ended."""

    ended_at: datetime
    rating: int | None
    note: str | None


def body_of(form: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI's request body of a form that is read by hand, within bounds."""
    schema = form.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}
