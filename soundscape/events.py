"""What is said: every event of the system, past tense, in the order of the story (what people add to it: soundscape.loop_events).

Bodies are frozen and versioned; a published version is never edited, only joined by a next one. Events whose body is not JSON
name the field that is (`BODY`); their other fields travel as CloudEvents extensions (soundscape.wire).
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from soundscape.answer_parts import Detection as Detection
from soundscape.answer_parts import Fusion as Fusion
from soundscape.answer_parts import LeftOut as LeftOut
from soundscape.answer_parts import MeanOf as MeanOf
from soundscape.answer_parts import Stages as Stages
from soundscape.answer_parts import Window as Window
from soundscape.event import NAMESPACE as NAMESPACE
from soundscape.event import Event as Event
from soundscape.event import Latitude as Latitude
from soundscape.event import Longitude as Longitude
from soundscape.event import Moment as Moment
from soundscape.event import Name as Name
from soundscape.event import Names as Names
from soundscape.event import Part as Part
from soundscape.event import Place as Place
from soundscape.event import Probability as Probability
from soundscape.event import clip_id as clip_id
from soundscape.loop_events import ClipLabelled as ClipLabelled
from soundscape.loop_events import ClipSampled as ClipSampled
from soundscape.loop_events import FeedbackGiven as FeedbackGiven
from soundscape.loop_events import TourMoved as TourMoved
from soundscape.loop_events import TourSpecies as TourSpecies
from soundscape.loop_events import TourSummed as TourSummed

Client = Literal["guide", "power", "mobile"]
"""The seed's three users: a guide's 5 s clips, a power user's 1-minute recordings, a phone with a bad connection."""
Role = Literal["champion", "canary", "shadow", "replay"]
"""In what part a release answered: the site's own, the candidate on its share of the streams, beside it unseen, or a replay."""


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
    tour_started_at: Moment | None = None
    """Of a tour that a guide started: it decides who answers while a candidate is on trial."""
    recorder: Name | None = None
    file_name: Name | None = None
    recorded_at: Moment | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    lang: Literal["en", "es", "scientific"] | None = None
    client: Client | None = None
    """What kind of user sent it, where the client says so."""
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


class ClipAnalysed(Event):
    """A release answered a clip. The latest of a clip on `predictions` is its effective answer."""

    TYPE: ClassVar[str] = "org.elsilencio.clip.analysed.v1"

    clip_id: UUID
    stream: Name
    site: Name
    tour_id: Name | None = None
    tour_started_at: Moment | None = None
    recorder: Name | None = None
    file_name: Name | None = None
    recorded_at: Moment | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    probe: bool = False
    place: Place
    client: Client | None = None
    release: str
    release_digest: str
    generation: int
    role: Role = "champion"
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
    calibrated: bool = True
    """Whether the thresholds were chosen for just the members that answered."""
    fusion: Fusion | None = None
    """Absent where the release has one member."""
    stages: Stages
    run_id: str | None = None
    """The replay that asked, on `shadow-predictions`."""

    @model_validator(mode="after")
    def _one_number_a_label(self) -> Self:
        """Readers put numbers beside labels: what does not fit is refused here, once, and not by each of them in its own way."""
        wanted = len(self.labels)
        if any(len(window.scores) != wanted for window in self.windows):
            raise ValueError(f"a window has not one score for each of the {wanted} labels")
        if self.weights is not None and len(self.weights) != wanted:
            raise ValueError(f"there is not one weight for each of the {wanted} labels")
        return self

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


class ReleaseRef(Part):
    """A release by name and by what is in it."""

    name: str
    digest: str


class Share(Part):
    """A share of the streams, and since when."""

    share: Probability
    since: Moment


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
    shares: tuple[Share, ...] = ()
    """The candidate's so far, the first first: a tour has the one of its start."""
    since: Moment | None = None
    """When the candidate came; what it answered before is no part of its trial."""
    reason: str
    actor: Name
    at: Moment

    def event_id(self) -> str:
        return f"{self.site}/{self.generation}"

    def key(self) -> str:
        return self.site


Step = Literal[
    "asked", "loaded", "committed", "answered", "refused", "unloaded", "healed", "replayed",
    "gated", "shadowed", "canaried", "promoted", "rolled-back", "alarmed", "retraining",
]  # fmt: skip
"""What may happen in the life of a deployment."""


class DeploymentStepped(Event):
    """One step of a deployment or of the deployer's healing, for people to read."""

    TYPE: ClassVar[str] = "org.elsilencio.deployment.stepped.v1"

    site: Name
    generation: int = Field(ge=0)
    step: Step
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
