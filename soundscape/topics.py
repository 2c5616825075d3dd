"""Where it is said: every topic, in story order, with who writes and reads it; the tables and AsyncAPI are generated from here."""

from __future__ import annotations

from dataclasses import dataclass

from soundscape import events
from soundscape.events import Event

DAY_MS = 24 * 3600 * 1000
MAX_MESSAGE_BYTES = 2 * 1024 * 1024
"""`max.message.bytes` of every topic, and the limit that every client is given: a body of 1.9 MB with its headers."""
DEAD_LETTER_ROOM_BYTES = 128 * 1024
"""Room for a dead letter's own headers beside the message that died."""
SEGMENT_BYTES = 64 * 1024 * 1024
"""Small segments, so that retention acts soon after its time."""
CLEANED = {"segment.ms": str(DAY_MS), "max.compaction.lag.ms": str(DAY_MS), "min.cleanable.dirty.ratio": "0.1"}
"""Of a compacted topic: what a tombstone removed (a voice) is off the disk within about two days, however little is written."""
KEYED = 16
"""Partitions of a keyed topic; never changed in place, since a key would move and its order break."""


@dataclass(frozen=True)
class Topic:
    """One topic. `share` is its part of the log's cap in GB; `durable` flushes each message to the disk before it is acknowledged."""

    name: str
    event: type[Event]
    keyed_by: str
    partitions: int
    retention_days: int | None
    share: float
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    says: str
    compacted: bool = False
    durable: bool = False
    room_bytes: int = 0
    """Bytes beyond MAX_MESSAGE_BYTES: a dead letter carries a whole message and what is said about it."""

    def config(self, cap_gb: float) -> dict[str, str]:
        """Kafka's settings of this topic, under one cap in GB for all topics together."""
        policy = ["compact"] * self.compacted + ["delete"] * (self.retention_days is not None)
        return {
            "cleanup.policy": ",".join(policy),
            "retention.ms": str(self.retention_days * DAY_MS if self.retention_days else -1),
            "retention.bytes": str(int(cap_gb * 1e9 * self.share / self.partitions) if self.retention_days else -1),
            "segment.bytes": str(SEGMENT_BYTES),
            "max.message.bytes": str(MAX_MESSAGE_BYTES + self.room_bytes),
            "flush.messages": "1" if self.durable else str(2**63 - 1),
            **(CLEANED if self.compacted else {}),
        }


CLIPS = Topic(
    "clips", events.ClipRecorded, "stream", KEYED, 30, 0.35,
    ("gateway", "simulate", "deployer", "deadletters", "audit"),
    ("analyse-live", "shadow", "board", "sample", "audit", "replay", "explain"),
    "The live lane: five seconds from somebody who waits.", durable=True,
)  # fmt: skip
RECORDINGS = Topic(
    "recordings", events.MinuteRecorded, "clip id", KEYED, 3, 0.30,
    ("watcher", "gateway", "simulate", "deployer", "deadletters", "audit", "bench"),
    ("analyse-bulk", "board", "sample", "audit", "replay", "explain"),
    "The bulk lane: recorders' minutes, and uploads of more than 15 s.",
)  # fmt: skip
PREDICTIONS = Topic(
    "predictions", events.ClipAnalysed, "stream", KEYED, 400, 0.20,
    ("analyse-live", "analyse-bulk"),
    ("gateway", "board", "results", "tours", "sample", "labeler", "archive", "quality", "deployer", "audit", "replay", "explain"),
    "What a release heard in a clip; the latest of a clip is its answer.",
)  # fmt: skip
SHADOW_PREDICTIONS = Topic(
    "shadow-predictions", events.ClipAnalysed, "stream", KEYED, 30, 0.03,
    ("shadow", "replay"), ("gateway", "deployer", "explain"), "What another release heard in the same clip; no guide sees it.",
)  # fmt: skip
FEEDBACK = Topic(
    "feedback", events.FeedbackGiven, "stream", KEYED, 400, 0.01,
    ("gateway",), ("gateway", "tours", "sample", "archive", "quality", "deployer", "audit", "replay", "explain"),
    "A guide's judgement of an answer.", durable=True,
)  # fmt: skip
SAMPLES = Topic(
    "samples", events.ClipSampled, "clip id", KEYED, 400, 0.03,
    ("sample", "labeler"), ("sample", "labeler", "quality", "replay"),
    "Sound worth a labeler's time; a tombstone removes a voice.", compacted=True,
)  # fmt: skip
LABELS = Topic(
    "labels", events.ClipLabelled, "stream", KEYED, 4000, 0.01,
    ("labeler", "labels"), ("gateway", "labeler", "tours", "sample", "archive", "quality", "deployer", "audit", "replay", "explain"),
    "What a person said a window holds.", durable=True,
)  # fmt: skip
TOUR_EVENTS = Topic(
    "tour-events", events.TourMoved, "stream", KEYED, 400, 0.01,
    ("gateway",), ("gateway", "tours", "archive", "audit", "explain"), "A tour started or ended.", durable=True,
)  # fmt: skip
TOURS = Topic(
    "tours", events.TourSummed, "tour", KEYED, None, 0.0,
    ("tours",), ("gateway", "archive", "audit", "explain"), "What a tour has heard so far.", compacted=True,
)  # fmt: skip
DEPLOYMENTS = Topic(
    "deployments", events.SiteDeployed, "site", 1, None, 0.0,
    ("deployer",), ("deployer", "analyse-live", "analyse-bulk", "shadow", "tours", "sample", "labeler", "gateway"),
    "The whole deployment state of a site; writing it is the commit.", compacted=True, durable=True,
)  # fmt: skip
DEPLOYMENT_LOG = Topic(
    "deployment-log", events.DeploymentStepped, "site", 1, 400, 0.01,
    ("deployer", "gate", "retrain"), ("deployer", "story"), "Every step of every deployment, for people.",
)  # fmt: skip
DEAD_LETTERS = Topic(
    "dead-letters", events.ClipDied, "clip id", KEYED, 30, 0.05,
    ("analyse-live", "analyse-bulk"), ("gateway", "board", "results", "deployer", "audit"),
    "What could not be answered, with its reason and its original bytes.", room_bytes=DEAD_LETTER_ROOM_BYTES,
)  # fmt: skip

TOPICS = (
    CLIPS, RECORDINGS, PREDICTIONS, SHADOW_PREDICTIONS, FEEDBACK, SAMPLES, LABELS,
    TOUR_EVENTS, TOURS, DEPLOYMENTS, DEPLOYMENT_LOG, DEAD_LETTERS,
)  # fmt: skip
"""All of them, in story order."""


@dataclass(frozen=True)
class Changelog:
    """What a stream table's rows are rebuilt from: written and read by the one Faust app that owns the table, as JSON, without an event."""

    name: str
    """APP-TABLE-changelog, as Faust names it."""
    partitions: int
    says: str

    def config(self, _: float) -> dict[str, str]:
        """Kafka's settings of this topic: compacted, kept for ever."""
        return {
            "cleanup.policy": "compact",
            "segment.bytes": str(SEGMENT_BYTES),
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
        }


TOUR_ROWS = Changelog("tours-rows-changelog", KEYED, "One row a tour and species, with the contributions of its clips.")
CHANGELOGS = (TOUR_ROWS,)
"""All of them."""

LANES = {"live": CLIPS, "bulk": RECORDINGS}
"""The topic that each lane reads."""
LANE_OF = {topic.name: lane for lane, topic in LANES.items()}
"""The lane that reads a topic."""


def group_of(lane: str) -> str:
    """The consumer group of a lane's workers: the id of their Faust app."""
    return f"analyse-{lane}"


def by_name(name: str) -> Topic:
    """The topic of that name. Raises KeyError."""
    return {topic.name: topic for topic in TOPICS}[name]
