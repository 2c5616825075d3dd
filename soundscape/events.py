"""What is said: every event of the system, past tense, in the order of the story.

Bodies are frozen and versioned; a published version is never edited, only joined by a next one. Events whose body is not JSON
name the field that is (`BODY`); their other fields travel as CloudEvents extensions (soundscape.wire).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

NAMESPACE = uuid5(NAMESPACE_URL, "https://elsilencio.example/clips")
"""Namespace of clip ids."""
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f/\\]+$")]
Probability = Annotated[float, Field(ge=0, le=1)]
Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]
Moment = Annotated[AwareDatetime, AfterValidator(lambda moment: moment.astimezone(UTC))]


def clip_id(site: str, stream: str, recorded_at: datetime | None, digest: str) -> str:
    """Identity of a clip: UUIDv5 of site, stream, `recorded_at` if the client gave it, and the SHA-256 of the bytes it sent."""
    moment = recorded_at.astimezone(UTC).isoformat(timespec="milliseconds") if recorded_at else ""
    return str(uuid5(NAMESPACE, "\n".join((site, stream, moment, digest))))


class Event(BaseModel):
    """One thing that happened. `TYPE` is CloudEvents' type, its last part the version."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    TYPE: ClassVar[str]
    BODY: ClassVar[str | None] = None

    def event_id(self) -> str:
        """CloudEvents' id: the same for the same event said again."""
        raise NotImplementedError

    def key(self) -> str:
        """Kafka's key."""
        raise NotImplementedError

    def extensions(self) -> dict[str, str]:
        """Extensions of a JSON event that let a reader choose without opening the body."""
        return {}


class Part(BaseModel):
    """A part of an event's body."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Place(Part):
    """Where a record lies on the log."""

    topic: str
    partition: int = Field(ge=0)
    offset: int = Field(ge=0)

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


class ClipRecorded(Event):
    """A clip came in: five seconds from a guide (`clips`) or a recorder's minute (`recordings`)."""

    TYPE: ClassVar[str] = "org.elsilencio.clip.recorded.v1"
    BODY: ClassVar[str | None] = "audio"

    clip_id: UUID
    site: Name
    stream: Name
    """A tour, a recorder, or the name of the key that uploaded it."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the bytes that the client sent."""
    published_at: Moment
    content_type: Literal["audio/ogg", "application/x-npy"] = "audio/ogg"
    feature_fingerprint: str | None = None
    """Of log-mels that the client computed."""
    tour_id: Name | None = None
    recorder: Name | None = None
    file_name: Name | None = None
    recorded_at: Moment | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    lang: Literal["en", "es", "scientific"] | None = None
    original_type: str | None = None
    original_rate: int | None = None
    probe: bool = False
    """Sent by the system to itself: answered like any clip, counted nowhere."""
    traceparent: str | None = None
    audio: bytes = Field(repr=False, max_length=2_000_000)

    def event_id(self) -> str:
        return str(self.clip_id)

    def key(self) -> str:
        return self.stream


class MinuteRecorded(ClipRecorded):
    """The same event on the bulk lane, spread evenly by its own id."""

    def key(self) -> str:
        return str(self.clip_id)


class Names(Part):
    """The names of a species."""

    scientific: str
    en: str
    es: str


class Detection(Part):
    """One species heard in consecutive windows above its threshold."""

    label: str
    names: Names
    taxon: str
    confidence: Probability
    """The highest fused score of its windows."""
    unweighted: Probability
    """The same before place and week lowered it."""
    threshold: Probability
    start_s: float = Field(ge=0)
    end_s: float = Field(gt=0)


class Window(Part):
    """Five seconds of the clip. `scores` stand in the order of the prediction's `labels`."""

    start_s: float = Field(ge=0)
    end_s: float = Field(gt=0)
    scores: tuple[Probability, ...]
    members: dict[str, dict[str, Probability]] = {}
    """Each member's own five highest scores, before fusion and prior."""
    events: dict[str, Probability] = {}
    """Sound-event scores (animal, speech, …) where a member tells them."""
    silent: bool = False


class LeftOut(Part):
    """A member that did not take part, and why."""

    member: str
    why: str


class Stages(Part):
    """When each stage of the clip's way ended."""

    recorded: Moment | None = None
    published: Moment
    received: Moment
    decoded: Moment
    features: Moment
    inferred: Moment
    predicted: Moment


class ClipAnalysed(Event):
    """A release answered a clip. The latest of a clip on `predictions` is its effective answer."""

    TYPE: ClassVar[str] = "org.elsilencio.clip.analysed.v1"

    clip_id: UUID
    stream: Name
    site: Name
    tour_id: Name | None = None
    recorder: Name | None = None
    file_name: Name | None = None
    recorded_at: Moment | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    probe: bool = False
    place: Place
    release: str
    release_digest: str
    generation: int
    licences: tuple[str, ...] = ()
    feature_fingerprints: tuple[str, ...]
    labels: tuple[str, ...]
    score_floor: Probability = 0.0
    """0: all labels are listed. Otherwise only those that reach it in some window, before the prior."""
    weights: tuple[Probability, ...] | None = None
    """What place and week multiplied each label's score by; absent where nothing was lowered."""
    windows: tuple[Window, ...]
    detections: tuple[Detection, ...]
    left_out: tuple[LeftOut, ...] = ()
    stages: Stages
    run_id: str | None = None
    """The replay that asked, on `shadow-predictions`."""

    def event_id(self) -> str:
        return f"{self.clip_id}/{self.release}" + (f"/{self.run_id}" if self.run_id else "")

    def key(self) -> str:
        return self.stream

    def extensions(self) -> dict[str, str]:
        return {"clipid": str(self.clip_id), "site": self.site, "release": self.release, "generation": str(self.generation)}


class ClipDied(Event):
    """A record that could not be answered, with its reason and its original bytes; `deadletters replay` brings it back."""

    TYPE: ClassVar[str] = "org.elsilencio.clip.died.v1"
    BODY: ClassVar[str | None] = "original"

    clip_id: str
    """The clip's id, or `topic:partition:offset` of a record that has none."""
    reason: str
    detail: str = Field(max_length=2000)
    topic: str
    partition: int
    offset: int
    died_at: Moment
    record_key: str | None = None
    site: str | None = None
    stream: str | None = None
    file_name: str | None = None
    probe: bool = False
    original: bytes = Field(repr=False)

    def event_id(self) -> str:
        return self.clip_id

    def key(self) -> str:
        return self.clip_id


class FeedbackGiven(Event):
    """A guide judged an answer (right, wrong, it was SPECIES, unknown), changed the judgement or withdrew it."""

    TYPE: ClassVar[str] = "org.elsilencio.feedback.given.v1"

    feedback_id: Name
    clip_id: UUID
    stream: Name
    site: Name
    verdict: Literal["right", "wrong", "species", "unknown", "withdrawn"]
    labels: tuple[str, ...] = ()
    note: str | None = Field(None, max_length=2000)
    release: str
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
    topic: str
    partition: int
    offset: int
    start_s: float = 0.0
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
    verdict: Literal["species", "unknown", "nothing", "speech"]
    labels: tuple[str, ...] = ()
    by: Name
    provenance: Name
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


class TourSummed(Event):
    """What a tour has heard so far, whole."""

    TYPE: ClassVar[str] = "org.elsilencio.tour.summed.v1"

    tour_id: Name
    site: Name
    species: tuple[str, ...]
    clips: int = Field(ge=0)
    at: Moment

    def event_id(self) -> str:
        return f"{self.tour_id}/{self.at.isoformat()}"

    def key(self) -> str:
        return self.tour_id


class ReleaseRef(Part):
    """A release by name and by what is in it."""

    name: str
    digest: str


class SiteDeployed(Event):
    """The whole deployment state of a site; compaction keeps the last one."""

    TYPE: ClassVar[str] = "org.elsilencio.site.deployed.v1"

    site: Name
    generation: int = Field(ge=1)
    champion: ReleaseRef
    previous: ReleaseRef | None = None
    candidate: ReleaseRef | None = None
    stage: Literal["champion", "shadow", "canary"] = "champion"
    share: Probability = 0.0
    reason: str
    actor: Name
    at: Moment

    def event_id(self) -> str:
        return f"{self.site}/{self.generation}"

    def key(self) -> str:
        return self.site


class DeploymentStepped(Event):
    """One step of a deployment or of the deployer's healing, for people to read."""

    TYPE: ClassVar[str] = "org.elsilencio.deployment.stepped.v1"

    site: Name
    generation: int = Field(ge=0)
    step: Literal["asked", "loaded", "committed", "answered", "refused", "unloaded", "healed", "replayed"]
    release: str | None = None
    detail: str = ""
    at: Moment

    def event_id(self) -> str:
        return f"{self.site}/{self.generation}/{self.step}/{self.at.isoformat()}"

    def key(self) -> str:
        return self.site


EVENTS: tuple[type[Event], ...] = (
    ClipRecorded,
    ClipAnalysed,
    ClipDied,
    FeedbackGiven,
    ClipSampled,
    ClipLabelled,
    TourMoved,
    TourSummed,
    SiteDeployed,
    DeploymentStepped,
)
"""All of them, in story order."""
