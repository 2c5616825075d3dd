"""What people add to the story: feedback, samples for labelers, labels, and tours."""

from __future__ import annotations

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import Field

from soundscape.event import Event, Latitude, Longitude, Moment, Name, Names, Part, Place, Probability


class FeedbackGiven(Event):
    """A guide judged an answer (right, wrong, it was SPECIES, unknown), changed the judgement or withdrew it."""

    TYPE: ClassVar[str] = "org.elsilencio.feedback.given.v1"

    feedback_id: Name
    clip_id: UUID
    stream: Name
    site: Name
    tour_id: Name | None = None
    verdict: Literal["right", "wrong", "species", "unknown", "withdrawn"]
    labels: tuple[str, ...] = Field((), max_length=50)
    """What the guide says it was, with `species`."""
    heard: tuple[str, ...] = ()
    """The labels that the answer named: what `right` and `wrong` are about."""
    recorded_at: Moment | None = None
    note: str | None = Field(None, max_length=2000)
    release: str
    """The one whose answer the guide saw."""
    clip_place: Place
    answer_place: Place
    by: Name
    given_at: Moment

    def event_id(self) -> str:
        return self.feedback_id

    def key(self) -> str:
        return self.stream


class ClipSampled(Event):
    """Sound worth a labeler's time, with the reason and the probability that it was chosen."""

    TYPE: ClassVar[str] = "org.elsilencio.clip.sampled.v1"
    BODY: ClassVar[str | None] = "audio"

    clip_id: UUID
    stream: Name
    site: Name
    reason: Literal["random", "flagged", "uncertain", "disagreement", "rare"]
    probability: Probability
    reasons: str | None = None
    """All of them so far, the first first, with commas: a clip may be sampled again for another."""
    topic: str
    partition: int
    offset: int
    start_s: float = Field(0.0, ge=0)
    """Where the sound begins in the clip that lies at topic, partition, offset."""
    end_s: float | None = None
    tour_id: Name | None = None
    recorder: Name | None = None
    recorded_at: Moment | None = None
    release: str | None = None
    answer_place: str | None = None
    """`topic:partition:offset` of the answer that gave the reason."""
    sampled_at: Moment
    content_type: Literal["audio/ogg"] = "audio/ogg"
    audio: bytes = Field(repr=False)

    def event_id(self) -> str:
        return f"{self.clip_id}/{self.reason}"

    def key(self) -> str:
        return str(self.clip_id)


class ClipLabelled(Event):
    """A person said what a window holds."""

    TYPE: ClassVar[str] = "org.elsilencio.clip.labelled.v1"

    label_id: Name
    clip_id: UUID
    stream: Name
    site: Name
    start_s: float = Field(ge=0)
    end_s: float = Field(gt=0)
    tour_id: Name | None = None
    verdict: Literal["species", "unknown", "nothing", "speech", "withdrawn"]
    """`speech` deletes: the sample's sound, and every later use of the clip; `withdrawn` takes this label back."""
    labels: tuple[str, ...] = Field((), max_length=50)
    by: Name
    provenance: Name
    """`page`, or `import:FORMAT:FILE`."""
    stratum: Literal["random", "value"] = "value"
    """Whether the window came to the labeler in hash order from the random sample, or for its value."""
    review: int = Field(1, ge=1, le=3)
    """1 first, 2 second and blind, 3 between two that disagree."""
    note: str | None = Field(None, max_length=2000)
    labelled_at: Moment

    def event_id(self) -> str:
        return self.label_id

    def key(self) -> str:
        return self.stream


class TourMoved(Event):
    """A tour started or ended."""

    TYPE: ClassVar[str] = "org.elsilencio.tour.moved.v1"

    tour_id: Name
    site: Name
    what: Literal["started", "ended"]
    by: Name
    rating: int | None = Field(None, ge=1, le=5)
    note: str | None = Field(None, max_length=2000)
    at: Moment

    def event_id(self) -> str:
        return f"{self.tour_id}/{self.what}"

    def key(self) -> str:
        return self.tour_id


class TourSpecies(Part):
    """One species of a tour, derived from the contributions of its clips."""

    label: str
    names: Names | None = None
    taxon: str | None = None
    status: Literal["provisional", "confirmed", "rejected"]
    clips: int = Field(ge=0)
    windows: int = Field(ge=0)
    confidence: Probability
    """Of its best clip."""
    best_clip: UUID | None = None
    first_at: Moment | None = None
    last_at: Moment | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    """Of its best clip."""
    by_person: bool = False
    """Whether a guide or a labeler settled the status."""


class TourSummed(Event):
    """What a tour, or a day of a recorder, has heard so far, whole."""

    TYPE: ClassVar[str] = "org.elsilencio.tour.summed.v1"

    tour_id: Name
    """Of a recorder or an upload outside a tour: STREAM@DAY."""
    site: Name
    species: tuple[str, ...]
    """Labels, rejected ones left out: `heard` says more."""
    clips: int = Field(ge=0)
    at: Moment
    stream: Name | None = None
    heard: tuple[TourSpecies, ...] = ()
    started_at: Moment | None = None
    ended_at: Moment | None = None
    rating: int | None = Field(None, ge=1, le=5)
    note: str | None = Field(None, max_length=2000)
    effort_minutes: float = Field(0.0, ge=0)
    """From the first clip or the start to the last clip or the end."""
    diversity: int = Field(0, ge=0)
    """Species neither provisional nor rejected."""
    diversity_per_hour: float | None = None
    feedback: int = Field(0, ge=0)
    """Judgements that stand."""
    by: Name | None = None
    """Whose key started it."""
    releases: tuple[str, ...] = ()
    """Whose answers it holds: two where one took over in mid-tour."""

    def event_id(self) -> str:
        return f"{self.tour_id}/{self.at.isoformat()}"

    def key(self) -> str:
        return self.tour_id
