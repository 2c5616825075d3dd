"""What tests of a running stack share: clips put straight on the log, what became of each, and clips in numbers while something dies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Literal

from kafka import TopicPartition
from kafka.partitioner.default import murmur2

from soundscape.audio import sha256
from soundscape.errors import Reason, Unavailable
from soundscape.events import ClipAnalysed, ClipDied, ClipRecorded, Event, MinuteRecorded, clip_id
from soundscape.kafka import abandon, new_consumer, new_producer, publish
from soundscape.settings import Settings
from soundscape.testing import wait_for
from soundscape.topics import DEAD_LETTERS, LANES, PREDICTIONS
from soundscape.wire import Message, decode, encode, texts

Lane = Literal["live", "bulk"]


def clip(
    body: bytes, *, site: str = "test", stream: str = "tour-1", lane: Lane = "live", recorded_at: datetime | None = None, **fields: Any
) -> ClipRecorded:
    """The event of a clip with this body, as a producer says it."""
    kind = ClipRecorded if lane == "live" else MinuteRecorded
    digest = sha256(body)
    common = {
        "clip_id": clip_id(site, stream, recorded_at, digest),
        "site": site,
        "stream": stream,
        "sha256": digest,
        "published_at": datetime.now(UTC),
        "recorded_at": recorded_at,
        "audio": body,
    }
    return kind.model_validate(common | fields)


def streams_of_one_partition(count: int, partitions: int = 16) -> list[str]:
    """Names of streams that share a partition, whichever it is (murmur2, as every client here does it)."""
    by_partition: dict[int, list[str]] = defaultdict(list)
    number = 0
    while True:
        name = f"neighbour-{number}"
        mates = by_partition[(murmur2(name.encode()) & 0x7FFFFFFF) % partitions]
        mates.append(name)
        if len(mates) == count:
            return mates
        number += 1


class Log:
    """The log of a running stack: what is put there, and what became of it since this was made."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.predictions: dict[str, list[ClipAnalysed]] = defaultdict(list)
        self.deaths: dict[str, list[tuple[ClipDied, dict[str, str]]]] = defaultdict(list)
        self._producer = new_producer(settings)
        self._consumer = new_consumer(settings)
        parts = [TopicPartition(topic.name, n) for topic in (PREDICTIONS, DEAD_LETTERS) for n in range(topic.partitions)]
        self._consumer.assign(parts)
        self._consumer.seek_to_end(*parts)
        for part in parts:
            self._consumer.position(part)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        abandon(self._producer)
        self._consumer.close()

    def send(self, event: ClipRecorded) -> str:
        """Publish a clip to its lane; returns its id."""
        lane = "bulk" if isinstance(event, MinuteRecorded) else "live"
        self.put(LANES[lane].name, encode(event))
        return str(event.clip_id)

    def put(self, topic: str, message: Message | Event) -> str:
        """Publish anything; returns `topic:partition:offset`. A broker that is away is waited for."""
        sent = encode(message) if isinstance(message, Event) else message

        def acknowledged() -> Any:
            try:
                return publish(self._producer, topic, sent)
            except Unavailable:
                abandon(self._producer)
                self._producer = wait_for(lambda: _unless_away(lambda: new_producer(self.settings)), "a producer", 120.0)
                return None

        record = wait_for(acknowledged, f"acknowledgement on {topic}", 120.0)
        return f"{record.topic}:{record.partition}:{record.offset}"

    def prediction(self, clip: str, limit_s: float = 60.0) -> ClipAnalysed:
        """The latest prediction of a clip, waited for."""
        found: list[ClipAnalysed] = wait_for(lambda: self._seen(self.predictions, clip), f"a prediction of {clip}", limit_s)
        return found[-1]

    def death(self, clip: str, limit_s: float = 60.0) -> tuple[ClipDied, dict[str, str]]:
        """The latest dead letter of a clip with its headers as text, waited for."""
        found: list[tuple[ClipDied, dict[str, str]]] = wait_for(
            lambda: self._seen(self.deaths, clip), f"a dead letter of {clip}", limit_s
        )
        return found[-1]

    def dead(self, clip: str) -> list[ClipDied]:
        """Its dead letters so far, without those that are sent again by themselves when their model answers."""
        return [died for died, _ in self.deaths.get(clip, []) if died.reason != Reason.MODEL_UNAVAILABLE]

    def poll(self) -> None:
        """Take in what has come."""
        for records in self._consumer.poll(50).values():
            for record in records:
                if record.topic == PREDICTIONS.name:
                    event = decode(ClipAnalysed, record.headers, record.value)
                    self.predictions[str(event.clip_id)].append(event)
                else:
                    died = decode(ClipDied, record.headers, record.value)
                    self.deaths[died.clip_id].append((died, texts(record.headers)))

    def _seen(self, where: dict[str, Any], clip: str) -> Any:
        self.poll()
        return where.get(clip)


def _unless_away(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Unavailable:
        return None


class Flow:
    """Clips that are being sent from a thread."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        """Of those that the broker has acknowledged."""
        self.sending: Future[None] = Future()

    def reaches(self, count: int) -> None:
        """Wait until so many are acknowledged. Raises what stopped the thread."""
        wait_for(lambda: self.sending.done() or len(self.ids) >= count, f"{count} clips to be acknowledged", 240.0)
        if self.sending.done():
            self.sending.result()


@contextmanager
def flowing(settings: Settings, bodies: list[bytes], count: int, name: str) -> Iterator[Flow]:
    """`count` different clips on both lanes, sent from a thread while the block runs and finished after it.

    Each is acknowledged before the next is sent, whatever the broker does meanwhile; every third goes to the bulk lane.
    """
    flow, started = Flow(), datetime.now(UTC)

    def send() -> None:
        with Log(settings) as log:
            for n in range(count):
                lane: Lane = "bulk" if n % 3 == 0 else "live"
                moment = started + timedelta(milliseconds=n)
                flow.ids.append(log.send(clip(bodies[n % len(bodies)], stream=f"{name}-{n % 24}", lane=lane, recorded_at=moment)))

    with ThreadPoolExecutor(1) as pool:
        flow.sending = pool.submit(send)
        flow.reaches(count // 10)
        yield flow
        flow.sending.result()
    assert len(set(flow.ids)) == count
