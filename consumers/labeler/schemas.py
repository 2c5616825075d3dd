"""What the labeler's door takes: labels as they are sent."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from consumers.labeler.problems import Problem, sentence
from soundscape.audio import MAX_SECONDS, WINDOW_S
from soundscape.errors import Reason
from soundscape.events import Name

MAX_LABELS = 40
"""Labels of one request: the 36 windows of the longest clip, and some."""
MAX_BODY_BYTES = 256 * 1024
"""Of one request: MAX_LABELS with notes and several species each."""


class LabelSent(BaseModel):
    """A window's label as a labeler sends it; the same `label_id` again is the same label, or its change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label_id: Name
    clip_id: UUID
    start_s: float = Field(ge=0, le=MAX_SECONDS)
    end_s: float = Field(gt=0, le=MAX_SECONDS + WINDOW_S)
    verdict: Literal["species", "unknown", "nothing", "speech"]
    labels: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = Field((), max_length=50)
    note: str | None = Field(None, max_length=2000)


_SENT: TypeAdapter[list[LabelSent]] = TypeAdapter(Annotated[list[LabelSent], Field(min_length=1, max_length=MAX_LABELS)])


def parse(body: bytes) -> list[LabelSent]:
    """The labels of a request's body. Raises Problem (400)."""
    try:
        return _SENT.validate_json(body)
    except ValidationError as error:
        raise Problem(400, str(Reason.BAD_REQUEST), sentence(error.errors(include_input=False, include_url=False))) from error
